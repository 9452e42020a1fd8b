"""The networks of finished runs: unpruned, pruned as in a sweep, or compact."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runner import runs
from runner.compaction.elastic import ELASTIC, elastic_file, load_network
from runner.compaction.saving import ARCHITECTURE, PACKED
from runner.config import choices
from runner.config.paths import CONF
from runner.config.rules import check_each
from runner.densities import SCOPES
from runner.errors import ConfigError
from runner.experiment import Experiment
from runner.pruning.sweep import Point, Sweeper, has_batch_norm, scope_for
from runner.reporting.formats import granularity_label, percent
from runner.rules import Rule, between, either, one_of, share
from runner.runs import Run
from runner.stored import load_scores, stored_config

COMPACT = "compact"  # the subfolder of a run folder for its compact networks

_RULES: dict[str, Rule] = {
    "sparsity": between(0, 1, open_end=True),
    "width": either(None, share()),
    "scope": one_of("auto", *SCOPES),
    "floor": either("auto", between(0, 1)),
    "batch_norm": one_of("kept", "recalibrated"),
}


@dataclass(frozen=True)
class Source:
    """A run, or one of the compact networks in its folder."""

    run: Run
    compact: Path | None = None

    @property
    def path(self) -> Path:
        return self.compact or self.run.folder


@dataclass(frozen=True)
class Network:
    """A network to evaluate or to export.

    Attributes:
        sweeper: the sweeper whose `model` is the network, in evaluation mode.
        pruning: a human-readable description of the pruning, such as "whole", "weights 50 %, recalibrated" or "compact
            unit-0.5".
        name: the same for use in file names, such as "whole", "weight-0.5-recalibrated" or "compact-unit-0.5".
    """

    source: Source
    experiment: Experiment
    sweeper: Sweeper
    pruning: str
    name: str

    @property
    def model(self) -> nn.Module:
        return self.sweeper.model


def find_sources(folders: Sequence[str]) -> list[Source]:
    """Find the runs at or below the folders, and the compact networks whose own folders are given.

    Duplicates are removed.

    Raises:
        ConfigError: a folder does not exist, contains no run, or is a compact network outside a run folder.
    """
    found: list[Source] = []
    for folder in map(Path, folders):
        run = Run(folder.absolute().parent.parent)
        inside = folder.absolute().parent.name == COMPACT and run.config_file.exists()
        if inside and folder.is_dir():
            given = Run(folder.parent.parent)  # wrong for a path relative to the run folder's compact/
            found.append(Source(given if given.config_file.exists() else run, folder))
        elif any((folder / name).is_file() for name in (ARCHITECTURE, PACKED, ELASTIC)):
            raise ConfigError(f"{folder} is not in a run folder, which holds its data: expected RUN/{COMPACT}/NAME")
        else:
            found += map(Source, runs.find_runs([folder]))
    return list(dict.fromkeys(found))


def check_pruning(asked: Mapping[str, Any], sources: Sequence[Source], config_dir: Path | None) -> dict[str, Any]:
    """Check the options of a command that prunes, and complete the configurations of `granularity` and `criterion`.

    Raises:
        ConfigError: a value is not allowed, a compact network is to be pruned, or a width is requested for a network
            that has only one.
    """
    check_each(asked, _RULES)
    folders = [CONF] if config_dir is None else [CONF, config_dir]
    settled = dict(asked)
    for group in ("granularity", "criterion"):
        try:
            parts = choices.settle(group, asked[group], folders)
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix("prune.")) from None
        if len(parts) != 1:
            raise ConfigError(f"{group}: expected one name, got {len(parts)}")
        settled[group] = parts[0]
    if asked["sparsity"]:
        for source in sources:
            if source.compact:
                raise ConfigError(f"sparsity={asked['sparsity']:g}: {source.path} is pruned already; expected 0")
    if asked["width"] is not None:
        for source in sources:
            if source.compact is None or elastic_file(source.compact) is None:
                raise ConfigError(
                    f"width={asked['width']:g}: {source.path} has one width only; "
                    "expected a folder that run compact FOLDER widths=[…] wrote"
                )
    return settled


def configurations(
    sources: Sequence[Source], asked: Mapping[str, Any], config_dir: Path | None
) -> list[tuple[Source, dict[str, Any]]]:
    """Return each source with its run's configuration. All are checked before the first network is built.

    Raises:
        ConfigError: a run is not finished, its configuration is invalid, or its data has changed.
    """
    return [(source, stored_config(source.run, asked, config_dir)) for source in sources]


@contextmanager
def opened(source: Source, config: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[Network]:
    """Context manager that builds a network and keeps it pruned until the end of the context.

    Args:
        source: the run or compact network.
        config: the configuration of the source's run, from `configurations`.
        asked: the options, from `check_pruning`.

    Raises:
        ConfigError: the model has nothing to prune at this granularity, or the granularity does not support the scope.
        DamagedRun: the weights are missing or damaged.
    """
    if threads := source.run.threads():
        torch.set_num_threads(threads)
    # Nothing is swept here, so the configuration of the run's own sweep does not matter.
    experiment = Experiment.from_config({key: value for key, value in config.items() if key != "prune"})
    own = {} if source.compact else load_scores(source.run, experiment.device)
    sweeper = replace(
        experiment.sweeper(own),
        granularities={asked["granularity"]["key"]: choices.make("granularity", asked["granularity"])},
        criteria={asked["criterion"]["key"]: choices.make("criterion", asked["criterion"])},
    )
    if source.compact:
        sweeper.model = load_network(source.compact, asked["width"]).to(experiment.device)
    else:
        experiment.load(source.run)
    point = _point(experiment, asked, has_batch_norm(sweeper.model))
    try:
        context = sweeper.pruned(point)
    except ValueError as error:
        raise ConfigError(f"granularity={point.granularity}: {error} ({source.path})") from None
    with context:
        yield Network(source, experiment, sweeper, *_names(source, point, asked["width"]))


def _point(experiment: Experiment, asked: Mapping[str, Any], has_statistics: bool) -> Point:
    granularity, criterion, sparsity = asked["granularity"], asked["criterion"], float(asked["sparsity"])
    floor = experiment.variant.floor(granularity["name"]) if asked["floor"] == "auto" else asked["floor"]
    try:
        scope = scope_for(granularity, asked["scope"], experiment.variant.scope)
    except ConfigError as error:
        raise ConfigError(str(error).replace("prune.", "")) from None
    return Point(
        granularity=granularity["key"],
        scope=scope,
        scores=criterion["key"],
        floor=float(floor) if sparsity else 0.0,  # sparsity=0 asks for the whole network
        batch_norm=asked["batch_norm"] if has_statistics else "none",
        sparsity=sparsity,
        split="",
    )


def _names(source: Source, point: Point, width: float | None) -> tuple[str, str]:
    """Return `Network.pruning` and `Network.name`."""
    words = [word for word, usual in ((point.scope, "layer"), (point.scores, "own")) if point.pruned and word != usual]
    words += ["recalibrated"] if point.batch_norm == "recalibrated" else []
    if source.compact:
        what, name = f"compact {source.compact.name}", f"{COMPACT}-{source.compact.name}"
        if width is not None:
            what, name = f"{what}, {percent(width)} % of the features", f"{name}-{width:g}"
    elif point.pruned:
        what = f"{granularity_label(point.granularity)} {percent(point.pruned)} %"
        what += f" (the floor; requested {percent(point.sparsity)} %)" if point.sparsity < point.floor else ""
        name = f"{point.granularity}-{point.pruned:g}"
    else:
        what = name = "whole"
    return ", ".join([what, *words]), "-".join([name, *words])
