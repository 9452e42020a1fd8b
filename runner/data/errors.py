"""The one exception for data that is missing, damaged or not what it should be."""

from __future__ import annotations

from typing import Any

from runner.errors import ConfigError


class DataError(ConfigError):
    """Data on disk can't be used. The message is one line: which parameter or file, and what was expected there.

    Args:
        problem: what is wrong.
        parameter: the constructor's parameter that led to the data; its name and value begin the message.
        value: of the parameter.
        remedy: another parameter that may help, and what it does: "download=true fetches it".
    """

    def __init__(
        self, problem: str, parameter: str | None = None, value: Any = None, remedy: str | None = None
    ) -> None:
        self.problem, self.parameter, self.value, self.remedy = problem, parameter, value, remedy
        super().__init__(self.text())

    def text(self, group: str = "") -> str:
        """The message, with the names of parameters as the command line has them if a group is given."""
        prefix = f"{group}." if group else ""
        parts = [f"{prefix}{self.parameter}={self.value}: {self.problem}" if self.parameter else self.problem]
        return "; ".join(parts + ([f"{prefix}{self.remedy}"] if self.remedy else []))


def one_line(error: BaseException) -> str:
    """Another library's message, fit to stand inside a one-line message."""
    return " ".join(str(error).split()) or type(error).__name__
