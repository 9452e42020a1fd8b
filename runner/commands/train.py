"""run train: one run from its configuration to its pruning table."""

import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from runner import __version__, runs
from runner.commands.parts import Parts, data_inventory, run_hash, settle
from runner.commands.prune import load_weights, sweep
from runner.errors import ConfigError, FolderInUse, Interrupted, UserError, first_line
from runner.files import write_bytes
from runner.models.layers import parameter_count
from runner.reporting.summary import pruning_summary
from runner.runs import Run
from runner.training.loop import Training
from runner.training.machine import describe, slow_precision
from runner.training.progress import Progress

log = logging.getLogger("runner")


def run_of(config: Mapping[str, Any], foreign: bool = False) -> tuple[Run, dict[str, Any], str]:
    """The run folder that a configuration means, the settled configuration and its whole hash."""
    settled = settle(config, foreign)
    hash_ = run_hash(settled)
    folder = Path(settled["folder"]) if settled["folder"] else runs.default_folder(settled, hash_)
    return Run(folder), settled, hash_


def train(
    config: Mapping[str, Any],
    overrides: Sequence[str] = (),
    foreign: bool = False,
    quiet: bool = False,
    command: Sequence[str] = ("train",),
    training_of: Callable[[Parts], Training] = Parts.training,
) -> Run:
    """Train, prune and report one run; a finished one is only reported, an interrupted one goes on.

    Args:
        command: the words of the command line before the overrides.
        training_of: makes the training of the parts, at its first step; called only if there is something to train.

    Raises:
        UserError: with a message for the user; the folder's status and log say it too, unless another process holds
            the folder or it belongs to another configuration.
    """
    run, config, hash_ = run_of(config, foreign)
    _status_for(run, hash_, config["force"])  # an early no, before data is read
    if run.in_use():
        raise FolderInUse(f"{run.folder} is in use by another process; left as it is")
    finished_before = _complete(run, config)
    if not finished_before:
        # Everything that can be wrong with the configuration and the data is found before anything is written.
        parts = Parts.of(config)
        with run.locked():
            status = _status_for(run, hash_, config["force"])
            _go(run, parts, config, overrides, status, hash_, command, training_of)
    if not quiet:
        print(pruning_summary(run))
        if finished_before:
            print("finished before, nothing was trained; force=true trains again")
        print(run.folder)
    return run


def _status_for(run: Run, hash_: str, force: bool) -> dict[str, Any]:
    """What the folder's status means for this run: {} where it starts from nothing."""
    if force:
        return {}
    status = run.status()
    if others := run.not_ours():
        raise ConfigError(
            f"{run.folder} holds {', '.join(others)} but no status.json, so it is no run's; "
            "choose another folder=, or force=true to replace what is there"
        )
    if status and status.get("hash") != hash_:
        raise ConfigError(
            f"{run.folder} holds a run of another configuration (see its .hydra/config.yaml); "
            "choose another folder=, or force=true to replace it"
        )
    return status


def _complete(run: Run, config: Mapping[str, Any]) -> bool:
    """Whether nothing is left to do: trained, and swept as asked."""
    status = {} if config["force"] else run.status()
    return status.get("state") == "finished" and status.get("swept") == config["prune"]


def _go(
    run: Run,
    parts: Parts,
    config: dict[str, Any],
    overrides: Sequence[str],
    status: dict[str, Any],
    hash_: str,
    command: Sequence[str],
    training_of: Callable[[Parts], Training],
) -> None:
    """Train and sweep what is missing, in a folder that is ours."""
    if status and (threads := run.threads()):
        torch.set_num_threads(threads)
    if status.get("trained"):
        load_weights(run, parts)
        training = None
    else:
        training = training_of(parts)
        if status:
            training.restore(run)
    if not status:
        run.clear()
    with _log_into(run), _outcome_of(run):
        if warning := slow_precision(parts.precision, parts.device):
            log.warning("%s", warning)
            print(f"run: {warning}", file=sys.stderr)
        if status.get("state") != "finished":
            run.unseal(run.config_file)
            run.write_status(**_started(parts, hash_, [*command, *overrides], status))
            run.write_config(config, overrides)
            run.seal(run.config_file)
        if training is not None:
            _train(run, parts, training)
        sweep(run, parts, Progress())
        run.write_status(state="finished", finished=status.get("finished") or runs.now(), swept=config["prune"])


def _started(parts: Parts, hash_: str, words: Sequence[str], status: Mapping[str, Any]) -> dict[str, Any]:
    """What status.json says from the start."""
    return {
        "state": "running",
        "trained": status.get("trained", False),
        "started": status.get("started") or runs.now(),
        "resumed": runs.now() if status else None,
        "finished": None,
        "error": None,
        "hash": hash_,
        "command": " ".join(["run", *words]),
        "headline": {"metric": parts.task.headline, "higher_is_better": parts.task.higher_is_better},
        "signatures": getattr(parts.task, "signatures", {}),  # how metrics were computed, where that has a name
        "parameters": parameter_count(parts.model),
        "examples": parts.data.sizes(),
        "data": data_inventory(parts.config),
        "device": describe(parts.device),
        "threads": torch.get_num_threads(),
        "precision": parts.precision,
        "python": platform.python_version(),
        "versions": {
            "runner": __version__,
            **{name: version(name) for name in ("torch", "torchvision", "numpy", "hydra-core")},
        },
        "git": _commit(),
    }


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, with + if it was changed; None if it is none."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    with suppress(OSError, subprocess.SubprocessError):
        ask = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return None


def _train(run: Run, parts: Parts, training: Training) -> None:
    training.fit(run, Progress(unit=getattr(parts.task, "example_unit", "img")))
    own = {f"{granularity}/{name}": t for granularity, d in parts.variant.scores().items() for name, t in d.items()}
    parts.variant.detach()
    write_bytes(run.scores_file, save(_plain(own)))
    write_bytes(run.weights_file, save(_plain(parts.model.state_dict())))
    seconds = round(training.seconds, 1)
    run.seal(run.weights_file, run.scores_file, trained=True, steps=training.steps, seconds=seconds)
    run.checkpoint_file.unlink(missing_ok=True)  # the weights are final


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


@contextmanager
def _log_into(run: Run) -> Iterator[None]:
    """Send the package's log to run.log while the context lasts."""
    try:
        handler = logging.FileHandler(run.log_file)
    except OSError as error:
        raise UserError(f"can't write into {run.folder}: {error.strerror}") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        with suppress(OSError):
            handler.close()


@contextmanager
def _outcome_of(run: Run) -> Iterator[None]:
    """Keep what goes wrong in status.json and run.log; a full or read-only disk becomes one clear line."""
    try:
        yield
    except KeyboardInterrupt:  # the status stays: "running" without a lock means that it can go on
        begun = run.checkpoint_file.exists() or run.status().get("trained")
        going_on = "goes on from the last checkpoint" if begun else "starts over: there is no checkpoint yet"
        raise Interrupted(f"the same command {going_on}") from None
    except Exception as error:
        failure: Exception = error
        if isinstance(error, OSError) and error.errno is not None:
            where = error.filename or run.folder
            failure = UserError(f"{where}: {os.strerror(error.errno)}; finished epochs are kept")
        with suppress(OSError):
            log.error("%s", failure, exc_info=not isinstance(failure, UserError))
        with suppress(OSError, UserError):
            run.write_status(state="failed", error=f"{type(failure).__name__}: {first_line(failure)}")
        raise failure from error
