"""run scree: finished runs at their first k features, beside PCA and networks trained at exactly that width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from runner import runs
from runner.config.compose import Composer
from runner.config.rules import check_each, show
from runner.errors import ConfigError
from runner.experiment import Experiment
from runner.files import write_frame, write_text
from runner.reporting.codes import pictures
from runner.reporting.columns import MACHINE, column_names, seed_groups
from runner.reporting.gather import Measured
from runner.reporting.scree import EXACT, PCA, Choosing, choices, figures, markdown, table
from runner.rules import between, either, list_of, one_of, whole
from runner.runs import NOT_IDENTITY, NOT_IDENTITY_OF_DATA, Run
from runner.scree.ordered import ALL, Cut, Meter, Ordered, cuts, some_ks
from runner.scree.pca import PIXELS, Pca
from runner.stored import load_scores, stored_config
from runner.tasks.metrics import headline_of_task, of_task
from runner.tasks.reconstruction import Reconstruction
from runner.training.machine import autocast
from runner.training.progress import Progress

_RULES = {
    "places": either(None, list_of(lambda name: None if isinstance(name, str) else "names of modules, or all")),
    "ks": either(None, list_of(whole(1))),
    "tolerance": between(0, 1),
    "batch_norm": one_of("kept", "recalibrated"),
}
_ONLY_IN_TRAINING = ("data.crop", "data.flip")

Row = dict[str, Any]
Options = Mapping[str, Any]
Configs = Mapping[Run, Mapping[str, Any]]


@dataclass(frozen=True)
class _Loaded:
    """One run's trained network, its features in order."""

    one: Measured
    parts: Experiment
    meter: Meter
    tailed: tuple[str, ...]  # the places that its variant ordered; where there are none, all of them
    by_norm: bool  # whether there are none

    @property
    def widths(self) -> dict[str, int]:
        return self.meter.ordered.widths


@dataclass(frozen=True)
class _Column:
    """Runs that differ in their seed only, and what was measured."""

    group: Sequence[Measured]
    exact: bool  # whether they show one width only
    by_norm: bool  # whether their features stand in the order of their filters' norms
    rows: list[Row]  # place, k, n, split, metric, value


def scree(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: the first folder's run, all others beside it."""
    if not folders:
        raise ConfigError("run scree needs a run folder, others beside it can follow: run scree outputs/train/…")
    asked = Composer("scree", config_dir).single(overrides)
    check_each(asked, _RULES)
    configs = {run: stored_config(run, asked, config_dir) for run in _found(folders)}
    groups, notes = _groups(configs, runs.find_runs(folders[:1]), folders[0])
    asked["limit"] = asked["limit"] or configs[groups[0][0].run].get("limit")
    first = _load(groups[0][0], configs, asked)
    places = _places(first, asked)
    columns = [_column(group, first, configs, asked, places) for group in groups]
    rows, name, by_norm = _named(columns)
    if by_norm:
        notes.append(f"features without an order of their own are kept by the norm of their filters: {by_norm}")
    task = first.parts.task
    if isinstance(task, Reconstruction):
        rows += _pca(first, [place for place in places if place != ALL], asked, notes)
    wide = table(rows, name)
    choosing = Choosing(headline_of_task(task), asked["tolerance"], of_task(task))
    chosen = choices(wide, choosing)
    if chosen.empty:
        notes.append("no images for validation, on which elbow and fewest features are chosen")
    out = Path(asked["out"] or Path(asked["outputs"]) / "scree" / _name(first.parts.config))
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(wide, chosen, choosing, name, notes)
    paths = [out / "table.csv", out / "choices.csv", out / "table.md"]
    for path, frame in zip(paths[:2], (wide, chosen), strict=True):
        write_frame(path, frame)
    write_text(paths[2], text)
    paths += figures(wide, chosen, choosing, name, out)
    if isinstance(task, Reconstruction) and hasattr(first.parts.model, "encode"):
        code, n = next(iter(first.widths.items()))
        paths += pictures(first.meter, code, some_ks(n, asked["ks"]), out)
    print(text)
    print(*paths, sep="\n")
    return 0


def _found(folders: Sequence[str]) -> list[Run]:
    """The first folder's runs, then all others; of copies of a run the first stays."""
    return list(dict.fromkeys([*runs.find_runs(folders[:1]), *runs.find_runs(folders)]))


def _groups(configs: Configs, first: Sequence[Run], folder: str) -> tuple[list[list[Measured]], list[str]]:
    """Runs that differ in their seed only together, the first folder's before the others; and notes."""
    groups, notes = seed_groups(configs)
    if sum(any(one.run in first for one in group) for group in groups) > 1:
        raise ConfigError(f"{folder} holds runs that differ in more than their seed; name one of them first")
    return groups, notes


def _load(one: Measured, configs: Configs, asked: Options) -> _Loaded:
    parts = Experiment.from_config(configs[one.run])
    parts.load(one.run)
    own = load_scores(one.run, parts.device).get("feature", {})
    try:
        ordered = Ordered(parts.model, own)
    except ValueError as error:
        raise ConfigError(f"{one.run.folder}: {error}, which run scree cuts") from None
    context = partial(autocast, parts.precision, parts.device)
    meter = Meter(ordered, parts.task, parts.data, context, asked["batch_norm"], asked["limit"], parts.config["seed"])
    return _Loaded(one, parts, meter, tuple(n for n in ordered.widths if n in own or not own), not own)


def _places(first: _Loaded, asked: Options) -> list[str]:
    """What is cut: names of places, and "all"."""
    tailed = first.tailed
    places = asked["places"] or [*tailed, *([ALL] if len(tailed) > 1 else [])]
    for place in places:
        if place not in (ALL, *first.widths):
            raise ConfigError(f"places: {place!r} is none of the model's; allowed is {', '.join([ALL, *first.widths])}")
    widest = max(first.widths[name] for place in places for name in (tailed if place == ALL else [place]))
    if asked["ks"] and max(asked["ks"]) > widest:
        raise ConfigError(f"ks={show(asked['ks'])}: allowed is 1 to {widest}, the features of the widest place")
    return list(dict.fromkeys(places))


def _named(columns: Sequence[_Column]) -> tuple[list[Row], str, str]:
    """All rows with their columns' names, the first's, and those in the order of norms. Exact widths don't lengthen
    the names of the others."""
    curves = [column for column in columns if not column.exact]
    names = dict(zip(map(id, curves), column_names([column.group[0] for column in curves]), strict=True))
    rows = []
    for column in columns:
        dropout = column.group[0].config["dropout.name"]
        name = names.get(id(column)) or (EXACT if dropout == "none" else f"{EXACT} {dropout}")
        rows += [{"column": name, **row} for row in column.rows]
    return rows, names[id(columns[0])], ", ".join(names[id(column)] for column in curves if column.by_norm)


def _column(
    group: Sequence[Measured], first: _Loaded, configs: Configs, asked: Options, places: Sequence[str]
) -> _Column:
    """Measure the runs of a group; one that shows a single width is measured at that alone."""
    rows: list[Row] = []
    exact = by_norm = False
    for one in group:
        loaded = first if one is first.one else _load(one, configs, asked)
        differing = _differing(first.one, one)
        narrower = _narrower(first, loaded, differing)
        exact, by_norm = narrower is not None, loaded.by_norm
        wanted = [narrower] if narrower else _cuts(first, loaded, places, asked["ks"])
        with Progress().counting(len(wanted), str(one.run.folder)) as advance:
            measured = list(loaded.meter.measure(wanted, advance))
        found = [
            {"place": cut.place, "k": cut.k, "n": cut.n, "split": split, "metric": metric, "value": value}
            for cut, split, values in measured
            for metric, value in values.items()
        ]
        # All features of a network that differs in nothing but its dropout are an exact width, too.
        same = not differing and not exact and first.one not in group and one.config["dropout.name"] == "none"
        rows += [*found, *({**row, "column": EXACT} for row in found if same and row["k"] == row["n"])]
    return _Column(group, exact, by_norm, rows)


def _cuts(first: _Loaded, loaded: _Loaded, places: Sequence[str], ks: Sequence[int] | None) -> list[Cut]:
    """Those of the first run's places that a network has, too; all together only where it has every one."""
    together = {name: loaded.widths[name] for name in first.tailed if name in loaded.widths}
    there = [place for place in places if place in loaded.widths]
    there += [ALL] if ALL in places and len(together) == len(first.tailed) else []
    if not there:
        raise ConfigError(f"{loaded.one.run.folder}: its model has none of the places {', '.join(places)}")
    return cuts(loaded.widths, together, there, ks)


def _narrower(first: _Loaded, loaded: _Loaded, differing: Mapping[str, Any]) -> Cut | None:
    """The one place that is narrower than the first run's, if one option of the model makes it so and nothing else
    differs but the dropout: the network was trained at exactly that width."""
    others = [name for name, n in loaded.widths.items() if first.widths.get(name) != n]
    alone = len(differing) == 1 and next(iter(differing)).startswith("model.")
    if not alone or len(others) != 1 or loaded.widths.keys() != first.widths.keys():
        return None
    n = loaded.widths[others[0]]
    return Cut(others[0], n, n, {}) if n < first.widths[others[0]] else None


def _differing(first: Measured, other: Measured) -> dict[str, Any]:
    """Options with another value than the first run's: those that make another network, besides the dropout.

    Raises:
        ConfigError: the task or what is evaluated is another one.
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
            raise ConfigError(f"{other.run.folder} has {here}, {first.run.folder} {show(first.config.get(name))}")
    return found


def _pca(first: _Loaded, places: Sequence[str], asked: Options, notes: list[str]) -> list[Row]:
    """The errors of PCA with as many components as features are kept."""
    data, metric = first.parts.data, first.parts.task.headline
    shape = next(data.eval_batches("test", 1))[0].shape[1:]
    if prod(shape) > PIXELS:
        notes.append(f"no PCA: images of {prod(shape):,} values, more than {PIXELS:,}")
        return []
    pca = Pca(partial(data.eval_batches, "train"), prod(shape))
    rows: list[Row] = []
    for split in ("validation", "test"):
        for place in places if split in data.splits else []:
            ks = some_ks(first.widths[place], asked["ks"])
            errors = pca.errors(data.eval_batches(split, asked["limit"]), ks)
            same = {"column": PCA, "place": place, "n": first.widths[place], "split": split, "metric": metric}
            rows += [{**same, "k": k, "value": error} for k, error in zip(ks, errors, strict=True)]
    return rows


def _name(config: Mapping[str, Any]) -> str:
    """`fashion_mnist-autoencoder-tail`"""
    return "-".join(str(config[group]["name"]) for group in ("data", "model", "dropout"))
