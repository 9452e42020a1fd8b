"""run prune: sweep a finished run, adding the rows that its pruning.csv lacks, without training."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from runner import runs
from runner.commands.parts import Parts, data_inventory
from runner.config.build import check_stored
from runner.config.compose import Composer
from runner.config.rules import check
from runner.dropout.base import Scores
from runner.errors import ConfigError, ForeignRun, damaged
from runner.files import append_row, write_rows
from runner.pruning.sweep import Point, asked_points, has_batch_norm, with_unpruned
from runner.reporting.curves import pruning_figure
from runner.reporting.summary import pruning_summary
from runner.runs import Run
from runner.training.machine import slow_precision
from runner.training.progress import Progress


def prune(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command; every run at or below the folders is swept under the same rules.

    Of several runs those with classes of somebody's own are left out unless their --config-dir is given.
    """
    asked = Composer("prune", config_dir).single(overrides)
    found = runs.find_runs(folders)
    configs: dict[Run, dict[str, Any]] = {}
    foreign: list[ForeignRun] = []
    for run in found:
        try:
            configs[run] = stored_config(run, asked, config_dir)
        except ForeignRun as error:  # one among many doesn't stop the others
            foreign.append(error)
    if not configs:
        raise foreign[0]
    for left_out in foreign:
        print(f"run: left out {left_out}", file=sys.stderr)
    for run, config in configs.items():
        prune_run(run, {**config, "prune": asked["prune"]})
    return 0


def stored_config(run: Run, asked: Mapping[str, Any], config_dir: Path | None = None) -> dict[str, Any]:
    """A finished run's configuration, checked, on the device and with the place of the data that are asked for.

    Raises:
        ForeignRun: its configuration names classes that are neither this package's nor the --config-dir's.
        ConfigError: the run is not finished, its configuration has bad values, or the data is not what it was trained
            on.
    """
    if run.state() != "finished":
        raise ConfigError(f"{run.folder} is not finished ({run.state() or 'no status'}); run train goes on with it")
    config = run.config()
    try:
        check_stored(config, config_dir)
    except ConfigError as error:
        hint = "" if config_dir else "; a run with classes of your own needs --config-dir FOLDER, where they are"
        raise ForeignRun(f"{run.folder}: {error}{hint}") from None
    try:
        check(config, config)
    except ConfigError as error:
        raise ConfigError(f"{run.folder}: {error}") from None
    if missing := {"seed", "precision"} - set(config):
        raise damaged(run.config_file, ValueError(f"no {', '.join(sorted(missing))} in it"))
    places = {key: value for key, value in asked["data"].items() if value is not None and key in config["data"]}
    config = {**config, "device": asked["device"], "data": {**config["data"], **places}}
    _check_data(run, config)
    return config


def _check_data(run: Run, config: Mapping[str, Any]) -> None:
    """Hold the user's own data against what status.json says of it; runs from before it did pass."""
    known = run.status().get("data")
    if not known or not isinstance(known, Mapping):
        return
    found = data_inventory(config)
    if found != known:
        raise _other_data(run, config, _difference(known, found))


def _difference(known: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """`without the classes c, d; 90 files instead of 120`, or that it is in names or sizes."""
    words = []
    was, now = ([str(name) for name in one.get("classes", [])] for one in (known, found))
    for word, names in (("without", [n for n in was if n not in now]), ("with", [n for n in now if n not in was])):
        if names:
            few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            words.append(f"{word} the class{'es' if len(names) > 1 else ''} {few}")
    if known.get("files") != found.get("files"):
        words.append(f"{found.get('files')} files instead of {known.get('files')}")
    return "; ".join(words) or "files with other names, sizes or contents"


def _other_data(run: Run, config: Mapping[str, Any], difference: str) -> ConfigError:
    data = config["data"]
    place = f"data.root={data['root']}" if data.get("root") is not None else f"data={data['name']}"
    return ConfigError(
        f"{place} is not the data that {run.folder} was trained on ({difference}); "
        "data.root=… names the place of that, run train … learns this"
    )


def prune_run(run: Run, config: Mapping[str, Any]) -> None:
    """Sweep one finished run."""
    with run.locked():
        if threads := run.threads():
            torch.set_num_threads(threads)
        parts = Parts.of(config)
        if warning := slow_precision(parts.precision, parts.device):
            print(f"run: {warning}", file=sys.stderr)
        load_weights(run, parts)
        sweep(run, parts, Progress())
        print(pruning_summary(run))
        print(run.folder)


def load_weights(run: Run, parts: Parts) -> None:
    """The trained weights into the plain model.

    Raises:
        DamagedRun: they are missing, can't be read or are another model's.
        ConfigError: the data has other classes.
    """
    run.verify(run.weights_file)
    try:
        parts.model.load_state_dict(load_file(run.weights_file, device=str(parts.device)))
    except Exception as error:
        examples, found = run.status().get("examples"), parts.data.sizes()
        if isinstance(examples, Mapping) and examples != found:  # weights are healthy, but of other classes
            counts = [", ".join(f"{name} {count}" for name, count in one.items()) for one in (found, examples)]
            raise _other_data(run, parts.config, f"examples: {counts[0]} instead of {counts[1]}") from None
        raise damaged(run.weights_file, error) from None


def load_scores(run: Run, device: torch.device) -> Scores:
    """The variant's own scores: granularity → layer → scores."""
    run.verify(run.scores_file)
    try:
        flat = load_file(run.scores_file, device=str(device))
    except Exception as error:
        raise damaged(run.scores_file, error) from None
    scores: Scores = {}
    for name, tensor in flat.items():
        granularity, _, layer = name.partition("/")
        scores.setdefault(granularity, {})[layer] = tensor
    return scores


def sweep(run: Run, parts: Parts, progress: Progress) -> None:
    """Measure the points that the configuration asks for, and the unpruned network, where pruning.csv lacks them; draw
    pruning.png."""
    asked = asked_points(
        parts.config["prune"],
        parts.variant.granularities,
        parts.variant.floor,
        has_batch_norm(parts.model),
        parts.data.splits,
    )
    done = run.pruning_rows()
    points = with_unpruned(asked)
    try:
        keys = {runs.point_key(row) for row in done}
    except KeyError as error:
        raise run.damaged_rows(error) from None
    missing = [point for point in points if runs.point_key(vars(point)) not in keys]
    if missing:
        sweeper = parts.sweeper(load_scores(run, parts.device))
        sweeper.keep_samples = partial(_keep_samples, run)
        columns = runs.pruning_columns(parts.task.sweep_metrics)
        run.unseal(run.pruning_file)
        write_rows(run.pruning_file, columns, done)  # without a line that a crash cut short
        with progress.counting(len(missing), "pruning") as advance:
            for point, row in sweeper.rows(missing):
                append_row(run.pruning_file, columns, {**vars(point), **row})
                advance()
    if not run.sealed(run.pruning_file):
        run.seal(run.pruning_file)
    if missing or not run.pruning_figure.exists():
        pruning_figure(run)


def _keep_samples(run: Run, point: Point, split: str, row: Mapping[str, Any], samples: Sequence[Sequence[str]]) -> None:
    """Outputs on the test split, for people: a heading a point, then blocks of lines, one an example."""
    if split != "test":
        return
    heading = f"{point.granularity} sparsity {point.pruned:.4g} (really {row['actual_sparsity']:.4f})"
    heading += "".join(f", {words}" for words in (point.scope, f"{point.scores} scores", point.batch_norm))
    blocks = ["\n".join(lines) for lines in samples]
    with run.samples_file.open("a", encoding="utf-8") as file:
        file.write(f"== {heading}\n\n" + "\n\n".join(blocks) + "\n\n")
