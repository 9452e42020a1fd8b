"""The one exception for data that is missing, damaged or not what it should be."""

from __future__ import annotations

from runner.errors import ConfigError


class DataError(ConfigError):
    """Data on disk can't be used. The message is one line: which option or file, and what was expected there."""


def one_line(error: BaseException) -> str:
    """Another library's message, fit to stand inside a one-line message."""
    return " ".join(str(error).split()) or type(error).__name__
