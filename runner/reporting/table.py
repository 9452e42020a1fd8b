"""Tables that combine many runs: mean and standard deviation over seeds, by sparsity and column."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

import pandas as pd

from runner.config.choices import in_order
from runner.errors import ConfigError
from runner.reporting.beside import published_beside
from runner.reporting.choice import Choice
from runner.reporting.columns import column_names, common_title, same_but_seed, without_repeats
from runner.reporting.drawing import STYLES
from runner.reporting.gather import Measured, concatenate
from runner.reporting.pairing import paired_differences
from runner.reporting.points import (
    is_unpruned,
    metrics_of,
    of_sweeps,
    own_floors,
    own_scope,
    statistics,
    unpruned_points,
)
from runner.reporting.sections import Section, Table
from runner.runs import Run, own_scopes, shown_floors
from runner.tasks.metrics import Metric


def make_table(measured: Sequence[Measured], choice: Choice, named: Mapping[Run, str] | None = None) -> Table:
    """Make the chosen table from gathered runs.

    Args:
        named: the column name of each run. By default, columns are named by the options that distinguish them.

    Raises:
        ConfigError: the runs do not have the metric or the measurements.
    """
    metric = _metric(measured, choice)
    columns = [without_repeats(column) for column in same_but_seed(measured)]
    repeats = [repeat for _, repeated in columns for repeat in repeated]
    first = [runs[0] for runs, _ in columns]
    names = column_names(first) if named is None else [named[run.run] for run in first]
    order = sorted(range(len(names)), key=lambda i: _place(columns[i][0][0], names[i], choice))
    own = {names[i]: columns[i][0] for i in order}
    points = _points(own, choice)
    sections = [_section(part, own, metric, choice) for part in _parts(points, choice)]
    if not sections:
        raise ConfigError(_nothing(measured, choice))
    if choice.x != "sparsity" and all(section.rows[choice.x].isna().all() for section in sections):
        again = "delete a run's pruning.csv and run prune FOLDER measures it again"
        raise ConfigError(f"table.x={choice.x}: the sweeps of these runs have no {choice.x}; {again}")
    left_out = [f"Left out, a copy: {', '.join(repeats)}."] if repeats else []
    shown = [name for name in own if any(name in section.columns for section in sections)]
    _check_baseline(choice.baseline, shown, sections)
    if len(shown) > STYLES:
        more = f"{len(shown)} columns, of which {STYLES} can be distinguished"
        left_out.append(f"No figures: {more}; table.runs=… selects fewer.")
    return Table(
        metric=metric,
        split=choice.split,
        common=common_title([own[name][0] for name in shown]),
        sections=sections,
        own_columns=shown,
        x=choice.x,
        runs={name: [run.run for run in own[name]] for name in shown},
        baseline=choice.baseline,
        notes=list(dict.fromkeys([*(note for section in sections for note in section.notes), *left_out])),
    )


def _metric(measured: Sequence[Measured], choice: Choice) -> Metric:
    if choice.metric == "auto":
        headlines = list({run.headline.name: run.headline for run in measured}.values())
        if len(headlines) > 1:
            names = " and ".join(metric.name for metric in headlines)
            raise ConfigError(
                f"the runs' headline metrics differ, {names}; choose with table.metric=… or table.runs={{data: …}}"
            )
        return headlines[0]
    for run in measured:
        if choice.metric not in metrics_of(run.columns):
            allowed = ", ".join(metrics_of(run.columns))
            raise ConfigError(f"table.metric={choice.metric}: expected auto, {allowed} ({run.run.folder} has these)")
    return measured[0].run.metric(choice.metric)


def _check_baseline(baseline: str | None, columns: Sequence[str], sections: Sequence[Section]) -> None:
    if baseline is None:
        return
    if baseline not in columns:
        near = get_close_matches(baseline, columns, n=1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise ConfigError(f"table.baseline={baseline}: no column has this name{hint} expected {', '.join(columns)}")
    if all(section.differences is None for section in sections):
        raise ConfigError(f"table.baseline={baseline}: there is no other column that was pruned in the same way")


def _place(run: Measured, name: str, choice: Choice) -> tuple[object, ...]:
    """Return the sort key of a column: the order of values in the table file, then no dropout first, then the name."""
    listed = []
    for option, values in choice.runs.items():
        has = run.config.get(option, run.config.get(f"{option}.name"))
        listed.append(values.index(has) if isinstance(values, list) and has in values else 0)
    return (*listed, run.config["dropout.name"] != "none", name)


def _points(own: Mapping[str, Sequence[Measured]], choice: Choice) -> pd.DataFrame:
    """Return the chosen points of all runs, with their column and seed.

    Columns that begin at a floor also have rows with floor 0 and sparsity 0 for the unpruned networks.
    """
    runs = [(name, run) for name, group in own.items() for run in group]
    every = concatenate([run for _, run in runs])
    every["seed"] = [runs[index][1].seed for index in every["run"]]
    names = [runs[index][0] for index in every["run"]]
    # Each column has its own floor for each granularity.
    places = [(name, granularity) for name, granularity in zip(names, every["granularity"], strict=True)]
    every = every.assign(column=names, place=pd.Series(places, dtype=object))
    points = of_sweeps(every, ["run"])
    points = points[(points["split"] == choice.split) & (points["scores"] == choice.scores)]
    scopes = _scopes(points, own, choice)
    points = points[points["scope"] == points["place"].map(scopes)]
    points = points[points["floor"] == points["place"].map(_floors(points, own, choice))]
    whole = unpruned_points(every, ["run"])
    whole = whole[(whole["split"] == choice.split) & whole["place"].isin(points.loc[points["floor"] > 0, "place"])]
    whole = whole.assign(scope=whole["place"].map(scopes), scores=choice.scores)
    points = pd.concat([points, whole], ignore_index=True)
    return points.assign(**{name: float("nan") for name in _averaged(choice) if name not in points})


def _averaged(choice: Choice) -> list[str]:
    """Return the columns beside the metric whose means are shown."""
    return ["actual_sparsity", *([] if choice.x == "sparsity" else [choice.x])]


def _statistics(points: pd.DataFrame, metric: Metric, choice: Choice) -> pd.DataFrame:
    """Return columns in long form. Standard deviations have n - 1 in the denominator."""
    key = ["column", "granularity", "batch_norm", "scope", "scores", "split", "floor", "sparsity"]
    rows = points.groupby(key, as_index=False, sort=False).agg(
        **{name: pd.NamedAgg(name, "mean") for name in _averaged(choice)}, **statistics(metric)
    )
    return rows.assign(metric=metric.name, source="", beside=rows["column"])


def _scopes(points: pd.DataFrame, own: Mapping[str, Sequence[Measured]], choice: Choice) -> dict[tuple[str, str], str]:
    """Return the scope to show for each column and granularity."""
    places = points.loc[~is_unpruned(points), ["column", "granularity", "scope"]].drop_duplicates()
    scopes: dict[tuple[str, str], str] = {}
    for column, part in places.groupby("column"):
        pruned = own_scopes(zip(part["granularity"], part["scope"], strict=True), own_scope(own[str(column)][0].run))
        scopes |= {(str(column), name): scope for name, scope in pruned.items()}
    every = dict.fromkeys(points["place"])
    return {place: scopes.get(place, "layer") if choice.scope == "auto" else choice.scope for place in every}


def _floors(
    points: pd.DataFrame, own: Mapping[str, Sequence[Measured]], choice: Choice
) -> dict[tuple[str, str], float]:
    """Return the floor to show for each column and granularity.

    For `auto`, it is the floor of `prune.floor=auto`, i.e. the variant's γ, or the first sweep's if no sweep used it.
    """
    if choice.floor != "auto":
        return dict.fromkeys(points["place"], float(choice.floor))
    floors: dict[tuple[str, str], float] = {}
    swept = points[["column", "granularity", "floor"]].drop_duplicates()
    for column, part in swept.groupby("column", sort=False):
        # Seeds may have been pruned in different granularities.
        known = {name: floor for run in reversed(own[str(column)]) for name, floor in own_floors(run.run).items()}
        shown = shown_floors(zip(part["granularity"], part["floor"], strict=True), known)
        floors |= {(str(column), name): float(floor) for name, floor in shown.items()}
    return floors


def _parts(points: pd.DataFrame, choice: Choice) -> Iterator[pd.DataFrame]:
    """Yield the points of each section. Models without BatchNorm belong to the sections of both BatchNorm modes."""
    if choice.sparsities is not None:
        points = points[points["sparsity"].isin([round(float(sparsity), 9) for sparsity in choice.sparsities])]
    present = in_order(points["granularity"])
    for granularity in present if choice.granularity == "auto" else [choice.granularity]:
        selected = points[points["granularity"] == granularity]
        norms = [norm for norm in choice.batch_norm if norm in set(selected["batch_norm"])] or choice.batch_norm[:1]
        for norm in norms:
            part = selected[selected["batch_norm"].isin([norm, "none"])]
            if not part.empty:
                yield part


def _section(points: pd.DataFrame, own: dict[str, list[Measured]], metric: Metric, choice: Choice) -> Section:
    """Return a section, including the published columns to show beside its rows."""
    part, differences = _statistics(points, metric, choice), None
    if choice.baseline is not None and {choice.baseline} < set(part["column"]):
        differences = paired_differences(points, choice.baseline, metric.name)
    granularity = str(part["granularity"].iloc[0])
    norm = next((name for name in part["batch_norm"] if name != "none"), "none")
    shown = {name: runs[0] for name, runs in own.items() if name in set(part["column"])}
    frames, columns = [part], {name: [name] for name in shown}
    beside = published_beside(shown, choice, granularity, norm, metric)
    beside = [column for column in beside if column.values.index.isin(part["sparsity"]).any()]
    same = {name: part[name].iloc[0] for name in ("granularity", "scores", "split", "metric")}
    for column in beside:
        values = column.values[column.values.index.isin(part["sparsity"])].reset_index()
        source = f"{column.published.file}: {column.published.head}"
        scope = part.loc[part["column"] == column.own, "scope"].iloc[0]
        names = {"scope": scope, "batch_norm": norm, "source": source, "column": column.label, "beside": column.own}
        frames.append(values.assign(**same, **names))
        columns[column.own].append(column.label)
    rows = pd.concat(frames, ignore_index=True)
    rows["n"] = rows["n"].astype("Int64")
    order = [name for names in columns.values() for name in names]
    by = ["column", "sparsity", "floor"]
    rows = rows.sort_values(by, key=lambda s: s.map(order.index) if s.name == "column" else s)
    return Section(granularity, norm, rows.reset_index(drop=True), order, beside, differences)


def _nothing(measured: Sequence[Measured], choice: Choice) -> str:
    """Return an error message that lists what was requested and what is available."""
    options = ("granularity", "batch_norm", "split", "scope", "scores", "floor", "sparsities")
    asked = {name: getattr(choice, name) for name in options}
    asked["batch_norm"] = ", ".join(choice.batch_norm) if len(choice.batch_norm) == 1 else None
    shown = " ".join(f"table.{name}={value}" for name, value in asked.items() if value not in ("auto", None))
    points = concatenate(measured)
    there = "; ".join(f"{name} {', '.join(map(str, points[name].unique()))}" for name in options[:-1])
    return f"no run was pruned with {shown}; available: {there}; run prune FOLDER adds more"
