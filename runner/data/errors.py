"""The exception for data that is missing, damaged or invalid."""

from __future__ import annotations

from typing import Any

from runner.errors import ConfigError


class DataError(ConfigError):
    """Data on disk can't be used. The message is one line that names the parameter or file and what was expected.

    Args:
        problem: what is wrong.
        parameter: the constructor's parameter that names the data; its name and value begin the message.
        value: value of the parameter.
        remedy: another parameter that may help, and what it does: "download=true fetches it".
    """

    def __init__(
        self, problem: str, parameter: str | None = None, value: Any = None, remedy: str | None = None
    ) -> None:
        self.problem, self.parameter, self.value, self.remedy = problem, parameter, value, remedy
        super().__init__(self.text())

    def text(self, group: str = "") -> str:
        """Return the message; with a group, parameters are named as on the command line."""
        prefix = f"{group}." if group else ""
        parts = [f"{prefix}{self.parameter}={self.value}: {self.problem}" if self.parameter else self.problem]
        return "; ".join(parts + ([f"{prefix}{self.remedy}"] if self.remedy else []))


def one_line(error: BaseException) -> str:
    """Return another library's error message as a single line."""
    return " ".join(str(error).split()) or type(error).__name__
