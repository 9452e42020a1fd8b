"""The exception for missing, damaged or invalid data."""

from __future__ import annotations

from typing import Any

from runner.errors import ConfigError


class DataError(ConfigError):
    """Data on disk cannot be used. The one-line message names the parameter or file and what was expected.

    Args:
        problem: what is wrong.
        parameter: the constructor parameter that names the data. The message begins with its name and value.
        value: the value of the parameter.
        remedy: another parameter that may help, and its effect, e.g. "download=true fetches it".
    """

    def __init__(
        self, problem: str, parameter: str | None = None, value: Any = None, remedy: str | None = None
    ) -> None:
        self.problem, self.parameter, self.value, self.remedy = problem, parameter, value, remedy
        super().__init__(self.text())

    def text(self, group: str = "") -> str:
        """Return the message. If a group is given, parameters are named as on the command line."""
        prefix = f"{group}." if group else ""
        parts = [f"{prefix}{self.parameter}={self.value}: {self.problem}" if self.parameter else self.problem]
        return "; ".join(parts + ([f"{prefix}{self.remedy}"] if self.remedy else []))


def one_line(error: BaseException) -> str:
    """Return another library's error message as a single line."""
    return " ".join(str(error).split()) or type(error).__name__
