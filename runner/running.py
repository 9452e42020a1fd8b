"""Execute a run, from its configuration to the finished folder: hashes of files, status, lock, log, remaining work."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from runner import runs
from runner.checks import kinds_of
from runner.config.build import NAMED_CLASS, arguments, check_targets, check_values, is_builder, options_of, target
from runner.config.identity import identity as identity_of
from runner.config.identity import identity_of_format_1, same_sweep
from runner.config.sources import own_sources
from runner.config.trust import trust
from runner.errors import ConfigError, FolderInUse, Interrupted, UserError, first_line
from runner.experiment import Experiment
from runner.files import sha256_of
from runner.processes import ALONE, OneProcess
from runner.runs import Run
from runner.started import started
from runner.stored import weights_at
from runner.training import checkpoint
from runner.training.loop import Training
from runner.training.machine import resolve_device, resolve_precision, slow_precision
from runner.training.progress import Progress

log = logging.getLogger("runner")


@dataclass(frozen=True)
class Identity:
    """The identity of a run: the format of its folder, its hash, and its hash in format 1."""

    format: int
    hash: str
    of_format_1: str | None


def settle(config: Mapping[str, Any], foreign: bool = False) -> dict[str, Any]:
    """Check the configuration and fill in the precision, which depends on the machine.

    The section of a model from transformers is also completed, so that its folder is not needed again.

    Args:
        config: the configuration.
        foreign: whether the configuration may name classes outside this package (from the user's --config-dir).
    """
    check_targets(config, foreign)
    check_values(config)
    cls, model = target(config, "model"), config["model"]
    if model["_target_"] == NAMED_CLASS:  # the user's own configuration names the class
        trust(str(model["architecture"]))
    if hasattr(cls, "settle"):
        config = {**config, "model": cls.settle(model, kinds_of(target(config, "data"))[0])}
    device = resolve_device(config["device"])
    return {**config, "precision": resolve_precision(config["precision"], device)}


def content_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return hashes of the user's files that determine the weights: the corpus, initial weights and source code."""
    content = own_sources(config)
    fingerprint = getattr(target(config, "data"), "fingerprint", None)
    if fingerprint:
        with options_of("data"):
            content["data"] = fingerprint(**arguments(config, "data"))
    if config.get("init") is not None:
        content["init"] = sha256_of(weights_at(config["init"]))
    builder, weights = target(config, "model"), config["model"].get("weights")
    if is_builder(builder) and weights is not None and (file := builder.weights_file(weights)):  # type: ignore[attr-defined]
        content["weights"] = sha256_of(file)
    return content


def run_of(config: Mapping[str, Any], foreign: bool = False) -> tuple[Run, dict[str, Any], Identity]:
    """Return the run folder of a configuration, the settled configuration and its identity.

    If only a folder of format 1 contains this run, that folder is returned, unless the run is to be trained again.
    """
    settled = settle(config, foreign)
    content = content_of(settled)
    identity = Identity(runs.FORMAT, identity_of(settled, content), identity_of_format_1(settled, content))
    if settled["folder"]:
        return Run(Path(settled["folder"])), settled, identity
    run = Run(runs.default_folder(settled, identity.hash))
    if identity.of_format_1 and not settled["force"] and not run.status_file.exists():
        older = Run(runs.default_folder(settled, identity.of_format_1))
        run = older if older.status_file.exists() else run
    return run, settled, identity


def execute(
    config: Mapping[str, Any],
    overrides: Sequence[str] = (),
    foreign: bool = False,
    command: Sequence[str] = ("train",),
    training_of: Callable[[Experiment], Training] = Experiment.training,
    processes: OneProcess = ALONE,
) -> tuple[Run, bool]:
    """Train and sweep one run, doing only the work that remains. An interrupted run is resumed.

    Args:
        config: the configuration.
        overrides: the options on the command line.
        foreign: whether the configuration may name classes outside this package.
        command: the words of the command line before the overrides.
        training_of: a function that sets up the training of an experiment; called only if training remains to be done.
        processes: the processes that share the training run. Only the first one calls this function; the others call
            `follow`.

    Returns:
        The run, and whether there was anything to do.

    Raises:
        UserError: the run failed. The error is also stored in the folder's status and log, unless it was found before
            training or the sweep began, e.g. an invalid option or a folder in use.
    """
    with processes.leading():
        return _execute(config, overrides, foreign, command, training_of, processes)


def prepared(config: Mapping[str, Any], processes: OneProcess) -> Experiment:
    """Build the experiment, so that errors in the configuration or the data are found before anything is written."""
    experiment = Experiment.from_config(config)
    experiment.check_teacher()
    experiment.processes = processes
    if processes.first:
        experiment.add_loggers()
    return experiment


def _execute(
    config: Mapping[str, Any],
    overrides: Sequence[str],
    foreign: bool,
    command: Sequence[str],
    training_of: Callable[[Experiment], Training],
    processes: OneProcess,
) -> tuple[Run, bool]:
    run, config, identity = run_of(config, foreign)
    _status_for(run, identity, config["force"])  # fail early, before data is read
    if run.in_use():
        raise FolderInUse(f"{run.folder} is in use by another process; left as it is")
    if is_complete(run, config):
        processes.tell(None)
        if _new_note(run, config):
            with run.locked():
                _keep_note(run, config)
        return run, False
    processes.tell(config["precision"])
    experiment = processes.together(lambda: prepared(config, processes))
    with run.locked():
        status = _status_for(run, identity, config["force"])
        _go(run, experiment, overrides, status, identity, command, training_of)
    return run, True


def _status_for(run: Run, identity: Identity, force: bool) -> dict[str, Any]:
    """Return the folder's status for this run, or {} if it starts from scratch.

    Raises:
        ConfigError: the folder does not belong to this run, or the run cannot be resumed.
    """
    if force:
        return {}
    status = run.status()
    if others := run.not_ours():
        raise ConfigError(
            f"{run.folder} holds {', '.join(others)} but no status.json, so it is not a run folder; "
            "choose another folder=, or force=true to replace its contents"
        )
    older = status.get("format", 1) < runs.FORMAT
    if status and status.get("hash") != (identity.of_format_1 if older else identity.hash):
        raise ConfigError(
            f"{run.folder} holds a run of another configuration (see its .hydra/config.yaml); "
            "choose another folder=, or force=true to replace it"
        )
    if older and status and not status.get("trained"):
        raise ConfigError(
            f"{run.folder} was started by an older version and can't be resumed by this one; force=true starts it over"
        )
    return status


def _new_note(run: Run, config: Mapping[str, Any]) -> bool:
    return config.get("note") is not None and config["note"] != run.status().get("note")


def _keep_note(run: Run, config: Mapping[str, Any]) -> None:
    """Store a new note, if there is one. Notes are not part of a run's identity."""
    if _new_note(run, config):
        run.write_status(note=config["note"])


def is_complete(run: Run, config: Mapping[str, Any]) -> bool:
    """Return whether no work remains: the run is trained and swept as configured, and `force` is not set."""
    status = {} if config["force"] else run.status()
    swept = same_sweep(status.get("swept"), config["prune"], runs.scope_of(status))
    return status.get("state") == "finished" and swept


def _go(
    run: Run,
    experiment: Experiment,
    overrides: Sequence[str],
    status: dict[str, Any],
    identity: Identity,
    command: Sequence[str],
    training_of: Callable[[Experiment], Training],
) -> None:
    """Complete training and sweep in a folder that this process has locked."""
    config = experiment.config
    threads = run.threads() if status else None
    if threads:
        torch.set_num_threads(threads)
    training = None
    if status.get("trained"):
        experiment.processes.tell(None)
        experiment.load(run)
    else:
        begun = checkpoint.read(run.checkpoint_file) if status and experiment.processes.count > 1 else None
        experiment.processes.tell((threads, begun, run.checkpoint_file))
        training = training_of(experiment)
        if status:
            training.restore(run)
    if not status:
        run.clear()
    with _log_into(run), _outcome_of(run):
        if warning := slow_precision(experiment.precision, experiment.device):
            log.warning("%s", warning)
            print(f"run: {warning}", file=sys.stderr)
        if status.get("state") != "finished":
            run.unseal(run.config_file)
            run.write_status(**started(experiment, identity, [*command, *overrides], status))
            run.write_config(config, overrides)
            run.seal(run.config_file)
        _keep_note(run, config)
        with experiment.logged(run):
            if training is not None:
                experiment.train(run, training)
            experiment.sweep(run, Progress())
        run.write_status(state="finished", finished=status.get("finished") or runs.now(), swept=config["prune"])


@contextmanager
def _log_into(run: Run) -> Iterator[None]:
    """Write the package's log to run.log for the duration of the context."""
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
    """Record errors in status.json and run.log, and report a full or read-only disk in one line."""
    try:
        yield
    except KeyboardInterrupt:  # the status remains "running", which without a lock means that it can be resumed
        begun = run.checkpoint_file.exists() or run.status().get("trained")
        going_on = "resumes from the last checkpoint" if begun else "starts over: there is no checkpoint yet"
        raise Interrupted(f"the same command {going_on}") from None
    except Exception as error:
        failure: Exception = error
        if isinstance(error, OSError) and error.errno is not None:
            where = error.filename or run.folder
            failure = UserError(f"{where}: {os.strerror(error.errno)}; finished epochs are kept")
        with suppress(OSError):
            log.error("%s", failure, exc_info=not isinstance(failure, UserError))
        with suppress(OSError, UserError):
            if run.status().get("state") != "finished":  # otherwise a further sweep failed, and all results remain
                run.write_status(state="failed", error=f"{type(failure).__name__}: {first_line(failure)}")
        if failure is error:
            raise  # keeps its own cause
        raise failure from error
