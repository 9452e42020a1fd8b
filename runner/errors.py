"""The errors whose message is for the user: printed as they are, without a traceback."""

from pathlib import Path


class UserError(Exception):
    """Something that the user can mend; the message names the option, the value and what is allowed."""

    exit_code = 1


class ConfigError(UserError):
    """A bad option, value or choice, found before anything was written."""

    exit_code = 2


class FolderInUse(UserError):
    """Another process holds the run folder."""


class DamagedRun(UserError):
    """A file of a run folder can't be read."""

    exit_code = 2


def damaged(path: Path, error: Exception, remedy: str = "run train … force=true starts over") -> DamagedRun:
    """The error that says which file can't be used, and what helps."""
    return DamagedRun(f"{path} is damaged ({first_line(error)[:100]}); {remedy}")


def first_line(error: BaseException) -> str:
    """An error's first line, or its class."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
