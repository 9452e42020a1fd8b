"""The errors whose message is for the user: printed as they are, without a traceback."""

import sysconfig
import traceback
from pathlib import Path
from typing import Any

# Where code is that is no user's own.
_NOT_USERS = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_NOT_USERS.append(Path(__file__).resolve().parent)


class UserError(Exception):
    """Something that the user can mend; the message names the option, the value and what is allowed."""

    exit_code = 1


class ConfigError(UserError):
    """A bad option, value or choice, found before anything was written."""

    exit_code = 2


class ParameterError(ValueError):
    """A value that a parameter can't have.

    Constructors raise it with their own parameter's name, as somebody who calls them in Python knows it; the command
    line puts the name of the configuration group before it, see `runner.config.build.options_of`.

    Args:
        name: the parameter.
        value: what it was given.
        allowed: what is expected, to follow the word "expected": "a number from 0 to 1", "one of erk, uniform".
    """

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        super().__init__(name, value, allowed)
        self.name, self.value, self.allowed = name, value, allowed

    def __str__(self) -> str:
        return f"{self.name}={self.value!r}: expected {self.allowed}"


class ForeignRun(ConfigError):
    """A run folder whose configuration names classes outside this package."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a training; the message says what the same command does when it is typed again."""


class FolderInUse(UserError):
    """Another process holds the run folder."""


class DamagedRun(UserError):
    """A file of a run folder can't be read."""

    exit_code = 2


def damaged(path: Path, error: Exception, remedy: str = "run train … force=true starts over") -> DamagedRun:
    """The error that says which file can't be used, and what helps."""
    return DamagedRun(f"{path} is damaged ({first_line(error)[:100]}); {remedy}")


def place_of(error: BaseException, folder: Path | None = None) -> str:
    """The place in a user's own file that an error comes from, "mine.py, line 7": the innermost one.

    Args:
        folder: where the file has to be; None: outside the standard library, installed packages and this package.

    Returns:
        "" where no such file takes part.
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
    """One line: the place in a user's file as `place_of` gives it, the error's class and the first line of its text."""
    text = str(error).strip()
    said = type(error).__name__ + (f": {first_line(error)}" if text else "")
    return ": ".join(filter(None, [place_of(error, folder), said]))


def first_line(error: BaseException) -> str:
    """An error's first line, or its class."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
