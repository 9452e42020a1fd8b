"""The measurements of `run scree`: runs with their first k features, PCA, and networks trained at that width."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

from runner.analyses.scree.cuts import ALL, Cut, cuts, some_ks
from runner.analyses.scree.low_rank import PCA as ACTIVATIONS
from runner.analyses.scree.low_rank import SVD, LowRank
from runner.analyses.scree.pca import PIXELS, Pca
from runner.analyses.scree.report import EXACT, PCA
from runner.config.rules import show
from runner.errors import ConfigError
from runner.experiment import Experiment
from runner.pruning.granularities.feature import Feature, FeatureMembers
from runner.pruning.sweep import Sweeper
from runner.reporting.columns import MACHINE, column_names
from runner.reporting.gather import Measured
from runner.runs import NOT_IDENTITY, NOT_IDENTITY_OF_DATA, Run
from runner.stored import load_scores
from runner.tasks.metrics import names_of
from runner.training.progress import Progress

_ONLY_IN_TRAINING = ("data.crop", "data.flip")

Row = dict[str, Any]
Options = Mapping[str, Any]
Configs = Mapping[Run, Mapping[str, Any]]


@dataclass(frozen=True)
class Loaded:
    """The trained network of one run, and a sweeper whose granularities are the feature places."""

    one: Measured
    parts: Experiment
    sweeper: Sweeper
    widths: dict[str, int]  # place → number of features
    tailed: tuple[str, ...]  # the places with features ordered by the variant, or all if there are none
    by_norm: bool  # whether the variant orders no features, so that norms of filters are used

    @property
    def splits(self) -> list[str]:
        """The splits to measure."""
        return [split for split in ("validation", "test") if split in self.parts.data.splits]

    def measure(
        self, cuts: Sequence[Cut], batch_norm: str, advance: Callable[[], object]
    ) -> Iterator[tuple[Cut, str, dict[str, float]]]:
        """Yield the loss and the task's metrics for each cut and split."""
        found = {}
        for point, row in self.sweeper.rows(cut.point(batch_norm, split) for cut in cuts for split in self.splits):
            found[point] = row
            advance()
        for cut in cuts:
            for split in self.splits:
                yield cut, split, self.metrics(found[cut.point(batch_norm, split)])

    def metrics(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Return the loss and the task's metrics from the results of an evaluation."""
        names = dict.fromkeys([*names_of(self.parts.task.sweep_metrics), "loss"])
        if row["loss"] == row[self.parts.task.headline]:  # the same value under two names
            del names["loss"]
        return {name: float(row[name]) for name in names}


@dataclass(frozen=True)
class Column:
    """A group of runs that differ only in their seed, with their measurements."""

    group: Sequence[Measured]
    exact: bool  # whether they are only measured at a single width
    by_norm: bool  # whether their features are ordered by the norms of their filters
    rows: list[Row]  # place, k, n, split, metric, value


def load(one: Measured, configs: Configs, asked: Options) -> Loaded:
    parts = Experiment.from_config(configs[one.run])
    parts.load(one.run)
    own = load_scores(one.run, parts.device)
    try:
        rows = FeatureMembers(parts.model).magnitude()
    except ValueError as error:
        raise ConfigError(f"{one.run.folder}: {error}, which run scree needs") from None
    ordered = own.get("feature", {})
    tailed = tuple(name for name in rows if name in ordered or not ordered)
    places = {ALL: Feature(tailed), **{name: Feature([name]) for name in rows}}
    sweeper = replace(parts.sweeper(own), limit=asked["limit"], granularities=places)
    return Loaded(one, parts, sweeper, {name: row.shape[1] for name, row in rows.items()}, tailed, not ordered)


def places_of(first: Loaded, asked: Options) -> list[str]:
    """Return the places to cut: names, and "all" for all places together."""
    tailed = first.tailed
    places = asked["places"] or [*tailed, *([ALL] if len(tailed) > 1 else [])]
    for place in places:
        if place not in (ALL, *first.widths):
            raise ConfigError(f"places={place}: expected {', '.join([ALL, *first.widths])}")
    widest = max(first.widths[name] for place in places for name in (tailed if place == ALL else [place]))
    if asked["ks"] and max(asked["ks"]) > widest:
        raise ConfigError(f"ks={show(asked['ks'])}: expected 1 to {widest}, the number of features of the widest place")
    return list(dict.fromkeys(places))


def named(columns: Sequence[Column]) -> tuple[list[Row], str, str]:
    """Name the columns. Columns of networks trained at one width do not lengthen the names of the others.

    Returns:
        All rows with their column names, the name of the first column, and the names of columns ordered by norms.
    """
    curves = [column for column in columns if not column.exact]
    names = dict(zip(map(id, curves), column_names([column.group[0] for column in curves]), strict=True))
    rows = []
    for column in columns:
        dropout = column.group[0].config["dropout.name"]
        name = names.get(id(column)) or (EXACT if dropout == "none" else f"{EXACT} {dropout}")
        for row in column.rows:
            how = row.pop("how", None)
            rows.append({"column": f"{name}, {how}" if how else name, **row})
    return rows, names[id(columns[0])], ", ".join(names[id(column)] for column in curves if column.by_norm)


def column_of(
    group: Sequence[Measured], first: Loaded, configs: Configs, asked: Options, places: Sequence[str]
) -> Column:
    """Measure the runs of a group. Networks trained at a smaller width are measured only at that width."""
    rows: list[Row] = []
    exact = by_norm = False
    for one in group:
        loaded = first if one is first.one else load(one, configs, asked)
        differing = _differing(first.one, one)
        narrower = _narrower(first, loaded, differing)
        exact, by_norm = narrower is not None, loaded.by_norm
        wanted = [narrower] if narrower else _cuts(first, loaded, places, asked["ks"])
        with Progress().counting(len(wanted) * len(loaded.splits), str(one.run.folder)) as advance:
            measured = list(loaded.measure(wanted, asked["batch_norm"], advance))
        found = [
            {"place": cut.place, "k": cut.k, "n": cut.n, "split": split, "metric": metric, "value": value}
            for cut, split, values in measured
            for metric, value in values.items()
        ]
        if asked["low_rank"] and not exact:
            rows += _low_rank(loaded, wanted, asked["batch_norm"])
        # A network without dropout that is otherwise the same is also an exact width, that of all features.
        same = not differing and not exact and first.one not in group and one.config["dropout.name"] == "none"
        rows += [*found, *({**row, "column": EXACT} for row in found if same and row["k"] == row["n"])]
    return Column(group, exact, by_norm, rows)


def _low_rank(loaded: Loaded, cuts: Sequence[Cut], batch_norm: str) -> list[Row]:
    """Measure the same cuts with directions instead of features."""
    low_rank = LowRank.of(loaded.sweeper)
    together = {name: loaded.widths[name] for name in loaded.tailed}
    wanted = [cut for cut in cuts if low_rank.covers(cut, together)]
    rows: list[Row] = []
    with Progress().counting(2 * len(wanted) * len(loaded.splits), str(loaded.one.run.folder)) as advance:
        for how, cut, split in product((SVD, ACTIVATIONS), wanted, loaded.splits):
            row = low_rank.measure(how, cut, together, batch_norm, split)
            same = {"place": cut.place, "k": cut.k, "n": cut.n, "split": split, "how": how}
            rows += [{**same, "metric": name, "value": value} for name, value in loaded.metrics(row).items()]
            advance()
    return rows


def _cuts(first: Loaded, loaded: Loaded, places: Sequence[str], ks: Sequence[int] | None) -> list[Cut]:
    """Return the cuts at those places of the first run that the network has; "all" requires every place."""
    together = {name: loaded.widths[name] for name in first.tailed if name in loaded.widths}
    there = [place for place in places if place in loaded.widths]
    there += [ALL] if ALL in places and len(together) == len(first.tailed) else []
    if not there:
        raise ConfigError(f"{loaded.one.run.folder}: its model has none of the places {', '.join(places)}")
    return cuts(loaded.widths, together, there, ks)


def _narrower(first: Loaded, loaded: Loaded, differing: Mapping[str, Any]) -> Cut | None:
    """Return the cut for a network trained at a smaller width, or None for other networks.

    Exactly one place of such a network is narrower than in the first run, and the runs differ in only one option of the
    model and possibly in the dropout.
    """
    others = [name for name, n in loaded.widths.items() if first.widths.get(name) != n]
    alone = len(differing) == 1 and next(iter(differing)).startswith("model.")
    if not alone or len(others) != 1 or loaded.widths.keys() != first.widths.keys():
        return None
    n = loaded.widths[others[0]]
    return Cut(others[0], n, n, 0.0) if n < first.widths[others[0]] else None


def _differing(first: Measured, other: Measured) -> dict[str, Any]:
    """Return the options, except dropout, that differ from the first run and give a different network.

    Raises:
        ConfigError: the task or the evaluation data differs.
    """
    apart = {*NOT_IDENTITY, *MACHINE, "limit", "dropout"}
    places = {f"data.{name}" for name in NOT_IDENTITY_OF_DATA}
    found = {
        name: other.config.get(name)
        for name in {**first.config, **other.config}
        if name.partition(".")[0] not in apart
        and name not in places
        and first.config.get(name) != other.config.get(name)
    }
    for name, value in sorted(found.items(), key=lambda item: item[0] != "task.name"):
        if name == "task.name" or (name.startswith("data.") and name not in _ONLY_IN_TRAINING):
            here = f"{name.removesuffix('.name')}={show(value)}"
            raise ConfigError(
                f"{other.run.folder} has {here}, but {first.run.folder} has {show(first.config.get(name))}"
            )
    return found


def pca_rows(first: Loaded, places: Sequence[str], asked: Options, notes: list[str]) -> list[Row]:
    """Return one row per place, number of kept features and split, with the error of PCA with as many components."""
    data, metric = first.parts.data, first.parts.task.headline
    shape = next(data.eval_batches("test", 1))[0].shape[1:]
    if prod(shape) > PIXELS:
        notes.append(f"no PCA: images have {prod(shape):,} values, more than {PIXELS:,}")
        return []
    pca = Pca(data.eval_batches("train"), prod(shape))
    rows: list[Row] = []
    for split in first.splits:
        for place in places:
            ks = some_ks(first.widths[place], asked["ks"])
            errors = pca.errors(data.eval_batches(split, asked["limit"]), ks)
            same = {"column": PCA, "place": place, "n": first.widths[place], "split": split, "metric": metric}
            rows += [{**same, "k": k, "value": error} for k, error in zip(ks, errors, strict=True)]
    return rows
