"""run COMMAND [FOLDER…] [overrides]: what the terminal sees.

Only the command that is asked for is imported, and torch only once there is something to compute.
"""

import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from runner.errors import ConfigError, UserError, located, place_of
from runner.helptexts import COMMANDS, OVERVIEW

# Answered by Hydra itself, on the configurations of run train.
_HYDRA_FLAGS = (
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--resolve",
    "--package",
    "-p",
    "--hydra-help",
    "--shell-completion",
    "-sc",
)


# How OpenMP's threads wait for work; each overrules or refines the first.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@dataclass(frozen=True)
class Arguments:
    """The words behind the command."""

    folders: list[str]
    overrides: list[str]
    multirun: bool
    config_dir: Path | None
    hydra_flags: bool
    estimate: bool


def main(argv: Sequence[str] | None = None) -> None:
    """The console command: exits with 0, 1 (something failed), 2 (bad input, nothing written), 130 (interrupted)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # γ and ± where a terminal's letters are others
    if not any(name in os.environ for name in _WAITING):
        # Threads that wait by spinning take the cores from those that have work, as soon as anything else runs.
        # OpenMP reads this when torch is imported.
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    try:
        code = _dispatch(words)
        sys.stdout.flush()
    except BrokenPipeError:  # run … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except UserError as error:
        if str(error):  # none, where another process of the same training tells
            print(f"run: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt as error:
        print("; ".join(filter(None, ["\nrun: interrupted", str(error)])), file=sys.stderr)
        if argv is None:  # what is left to do at exit is short, and half of it would leave semaphores behind
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = 130
    except OSError as error:
        print(f"run: {error.filename or ''}: {error.strerror or error}".replace("run: : ", "run: "), file=sys.stderr)
        code = 1
    sys.exit(code)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(OVERVIEW)
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
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ConfigError(f"there is no command {command!r}{hint} Commands: {', '.join(COMMANDS)}; run --help explains")
    if any(word in ("-h", "--help") for word in rest):
        print(COMMANDS[command])
        return 0
    # Messages of ours go to run.log; what libraries warn about is for it too, not for the terminal.
    logging.getLogger("runner").propagate = False
    arguments = _arguments(rest)
    if arguments.estimate and command != "reproduce":
        raise ConfigError(f"run {command} has no --estimate; run reproduce has")
    try:
        return _run(command, arguments, rest)
    except Exception as error:
        if isinstance(error, UserError) or not (folder := arguments.config_dir) or not place_of(error, folder):
            raise
        raise UserError(located(error, folder)) from error  # an error in the user's own file


def _completion(words: Sequence[str]) -> int:
    """`--completion bash` prints a script, which asks with `--complete LINE` how a line may go on."""
    from runner.completion import complete, script

    asked = words[1] if len(words) == 2 else ""
    if words[0] == "--complete":
        print(*complete(asked), sep="\n")
    elif asked in ("bash", "zsh"):
        print(script(asked), end="")
    else:
        raise ConfigError(f"--completion {asked}: expected bash or zsh")
    return 0


def _run(command: str, arguments: Arguments, rest: Sequence[str]) -> int:
    if _shared() and (command != "train" or arguments.multirun):
        words = f"{command} -m" if arguments.multirun else command
        raise ConfigError(f"run {words} works in one process; torchrun is for run train of one run")
    if command == "train":
        return _train(arguments, rest)
    if arguments.multirun or arguments.hydra_flags:
        raise ConfigError(f"run {command} has no -m or Hydra flags; run train has")
    if command == "prune" and not arguments.folders:
        raise ConfigError("run prune needs a run folder: run prune outputs/train/… prune.sparsities=[0.5,0.9]")
    function = getattr(importlib.import_module(f"runner.commands.{command}"), command if command != "list" else "list_")
    more = (arguments.estimate,) if command == "reproduce" else ()
    return int(function(arguments.folders, arguments.overrides, arguments.config_dir, *more))


def _shared() -> bool:
    """Whether this is one of several processes that torchrun, or `run train processes=N`, has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _arguments(words: Sequence[str]) -> Arguments:
    folders, overrides, config_dir = [], [], None
    multirun = hydra_flags = estimate = False
    rest = iter(words)
    for word in rest:
        flag, has_value, value = word.partition("=")  # an option's name and value, too
        if word in ("-m", "--multirun"):
            multirun = True
        elif flag in ("--config-dir", "-cd"):
            folder = value if has_value else next(rest, "")
            if not folder:
                raise ConfigError("--config-dir needs a folder: --config-dir my_conf")
            config_dir = Path(folder)
        elif word == "--estimate":
            estimate = True
        elif flag in _HYDRA_FLAGS:
            hydra_flags = True
        elif word.startswith("-"):
            raise ConfigError(f"there is no flag {word}; run --help explains")
        elif has_value and value.startswith("~/"):  # bash writes the home folder there itself, other shells don't
            overrides.append(f"{flag}={Path(value).expanduser()}")
        elif has_value or word.startswith("~"):
            overrides.append(word)
        else:
            folders.append(word)
    return Arguments(folders, overrides, multirun, config_dir, hydra_flags, estimate)


def _train(arguments: Arguments, words: Sequence[str]) -> int:
    from runner.config.compose import Composer

    if arguments.hydra_flags:
        from runner.multirun import hydra_main

        return hydra_main(words)
    if arguments.folders:
        word = arguments.folders[0]
        raise ConfigError(f"{word!r} is not understood: options are written name=value ({word}=…)")
    foreign = arguments.config_dir is not None
    composer = Composer("train", arguments.config_dir)
    if arguments.multirun:
        from runner.multirun import multirun

        return multirun(composer, arguments.overrides)
    config = composer.single(arguments.overrides)
    if config["processes"] > 1 and not _shared():
        from runner.commands.processes import start

        return start(["train", *words], config["processes"])

    from runner.commands.train import train

    train(config, arguments.overrides, foreign)
    return 0
