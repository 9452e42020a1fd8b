"""Errors whose message is meant for the user and is printed without a traceback."""

import sysconfig
import traceback
from pathlib import Path
from typing import Any

# The locations of code that is not the user's own.
_NOT_USERS = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_NOT_USERS.append(Path(__file__).resolve().parent)


class UserError(Exception):
    """An error that is reported to the user in one line.

    If a value is invalid, the message names the option, the value and what is allowed.
    """

    exit_code = 1


class ConfigError(UserError):
    """Invalid input, such as an unknown option or a missing folder, found before anything was written."""

    exit_code = 2


class ParameterError(ValueError):
    """An invalid value of a parameter.

    Constructors raise it with the name that the parameter has in Python. The command line prepends the name of the
    configuration group (see `runner.config.build.options_of`).

    Args:
        name: the name of the parameter.
        value: the invalid value.
        allowed: the allowed values, worded to follow "expected": "a number from 0 to 1", "one of erk, uniform".
    """

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        super().__init__(name, value, allowed)
        self.name, self.value, self.allowed = name, value, allowed

    def __str__(self) -> str:
        return f"{self.name}={self.value!r}: expected {self.allowed}"


class ForeignRun(ConfigError):
    """A stored configuration names a user-defined class that is not trusted, or whose source has changed."""


class Interrupted(KeyboardInterrupt):
    """Training was interrupted by Ctrl-C. The message says what rerunning the command will do."""


class FolderInUse(UserError):
    """Another process is using the run folder."""


class DamagedRun(UserError):
    """A file in a run folder is missing, unreadable or does not match its checksum."""

    exit_code = 2


def damaged(path: Path, error: Exception, remedy: str = "run train … force=true starts over") -> DamagedRun:
    """Return an error that names the damaged file and a remedy."""
    return DamagedRun(f"{path} is damaged ({first_line(error)[:100]}); {remedy}")


def place_of(error: BaseException, folder: Path | None = None) -> str:
    """Return the innermost location of an error in a user's own file, such as "/home/me/mine.py, line 7".

    Args:
        folder: the folder that must contain the file. None means any file outside the standard library, installed
            packages and this package.

    Returns:
        the location, or "" if the traceback contains no such file.
    """
    whole = [error] if error.__cause__ is None else [error, error.__cause__]
    found = [frame for part in whole for frame in traceback.walk_tb(part.__traceback__)]
    frames = [(frame.f_code.co_filename, line) for frame, line in found]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno or 0))
    for name, line in reversed(frames):
        file = Path(name).resolve()
        outside = not name.startswith("<") and not any(file.is_relative_to(other) for other in _NOT_USERS)
        if file.is_relative_to(folder.resolve()) if folder else outside:
            return f"{file}, line {line}"
    return ""


def located(error: BaseException, folder: Path | None = None) -> str:
    """Describe an error in one line: its location (see `place_of`), its class and the first line of its message."""
    text = str(error).strip()
    said = type(error).__name__ + (f": {first_line(error)}" if text else "")
    return ": ".join(filter(None, [place_of(error, folder), said]))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if the message is empty."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
