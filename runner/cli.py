"""The command line: run COMMAND [FOLDER…] [overrides].

Only the requested command is imported, and torch only once there is something to compute.
"""

import importlib
import inspect
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from runner.cores import is_one_of_several
from runner.errors import ConfigError, UserError, located, place_of
from runner.help import COMMANDS, example_of, help_of, overview, usage_of

# Each flag and the argument of a command's main() that it sets. Hydra's own flags pass on all words.
_FLAGS = {"-m": "multirun", "--multirun": "multirun", "--estimate": "estimate"}
_HYDRA = ("--cfg", "-c", "--info", "-i", "--resolve", "--package", "-p", "--hydra-help", "--shell-completion", "-sc")
_FLAGS |= dict.fromkeys(_HYDRA, "hydra")


# How OpenMP's threads wait for work. The second and third override or refine the first.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@dataclass(frozen=True)
class Arguments:
    """The command-line arguments after the command, grouped by kind."""

    folders: list[str]
    overrides: list[str]
    config_dir: Path | None
    flags: dict[str, str]  # argument of main() → the flag as typed


def main(argv: Sequence[str] | None = None) -> None:
    """Run the console command.

    The exit code is 0 on success, 1 on failure, 2 for invalid input (nothing has been written) and 130 on Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for terminals whose encoding lacks γ and ±
    if not any(name in os.environ for name in _WAITING):
        # As soon as anything else runs, threads that spin while waiting take cores from threads that have work.
        # OpenMP reads this variable when torch is imported.
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    try:
        code = _dispatch(words)
        sys.stdout.flush()
    except BrokenPipeError:  # run … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except UserError as error:
        if str(error):  # empty if another process of the same run reports the error
            print(f"run: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt as error:
        print("; ".join(filter(None, ["\nrun: interrupted", str(error)])), file=sys.stderr)
        if argv is None:  # the cleanup at exit is short, and interrupting it would leave semaphores behind
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = 130
    except OSError as error:
        print(f"run: {error.filename or ''}: {error.strerror or error}".replace("run: : ", "run: "), file=sys.stderr)
        code = 1
    sys.exit(code)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] == "--version":
        from runner import __version__

        print(f"run {__version__}")
        return 0
    if words[0] in ("--completion", "--complete"):
        return _completion(words)
    command, *rest = words
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise ConfigError(
            f"unknown command {command!r}{hint} expected one of {', '.join(COMMANDS)}; run --help explains"
        )
    if any(word in ("-h", "--help") for word in rest):
        print(help_of(command))
        return 0
    # The package's own messages go to run.log, and so do the warnings of libraries, but not to the terminal.
    logging.getLogger("runner").propagate = False
    arguments = _arguments(rest)
    try:
        return _run(command, arguments, rest)
    except Exception as error:
        if isinstance(error, UserError) or not (folder := arguments.config_dir) or not place_of(error, folder):
            raise
        raise UserError(located(error, folder)) from error  # an error in the user's own file


def _completion(words: Sequence[str]) -> int:
    """Print the script for `--completion bash`, or the completions for `--complete LINE`, which the script calls."""
    from runner.completion import complete, script

    asked = words[1] if len(words) == 2 else ""
    if words[0] == "--complete":
        print(*complete(asked), sep="\n")
    elif asked in ("bash", "zsh"):
        print(script(asked), end="")
    else:
        raise ConfigError(f"--completion {asked}: expected bash or zsh")
    return 0


def _run(command: str, arguments: Arguments, words: Sequence[str]) -> int:
    several = command != "train" or "multirun" in arguments.flags
    if several and is_one_of_several():
        what = f"{command} -m" if "multirun" in arguments.flags else command
        raise ConfigError(f"run {what} works in one process; torchrun is for run train of one run")
    usage = usage_of(command)
    if " FOLDER…" in usage and not arguments.folders:
        raise ConfigError(f"run {command} needs a run folder: {example_of(command)}")
    if not any(word in usage for word in ("FOLDER", "GROUP", "A B")) and "hydra" not in arguments.flags:
        for word in arguments.folders:
            raise ConfigError(f"{word!r} is not understood: options are written name=value ({word}=…)")
    function = importlib.import_module(f"runner.commands.{command}").main
    for name, flag in arguments.flags.items():
        if name not in inspect.signature(function).parameters:
            raise ConfigError(f"run {command} has no {flag}; run {'reproduce' if name == 'estimate' else 'train'} has")
    flags = {name: list(words) if name == "hydra" else True for name in arguments.flags}
    return int(function(arguments.folders, arguments.overrides, arguments.config_dir, **flags))


def _arguments(words: Sequence[str]) -> Arguments:
    """Group the words by kind. argparse would not help: most words are Hydra overrides, which may appear anywhere."""
    arguments = Arguments([], [], None, {})
    rest = iter(words)
    for word in rest:
        flag, has_value, value = word.partition("=")  # an option's name and value, too
        if flag in ("--config-dir", "-cd"):
            folder = value if has_value else next(rest, "")
            if not folder:
                raise ConfigError("--config-dir needs a folder: --config-dir my_conf")
            arguments = replace(arguments, config_dir=Path(folder))
        elif flag in _FLAGS:
            arguments.flags[_FLAGS[flag]] = flag
        elif word.startswith("-"):
            raise ConfigError(f"there is no flag {word}; run --help explains")
        elif has_value and value.startswith("~/"):  # bash expands ~ after =, other shells do not
            arguments.overrides.append(f"{flag}={Path(value).expanduser()}")
        elif has_value or word.startswith("~"):
            arguments.overrides.append(word)
        else:
            arguments.folders.append(word)
    return arguments
