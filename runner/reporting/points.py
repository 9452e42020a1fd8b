"""Read a run's pruning.csv as a data frame."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from runner.errors import DamagedRun
from runner.runs import COST_COLUMNS, COUNT_COLUMNS, POINT_COLUMNS, Run, floors_of, scope_of
from runner.tasks.metrics import Metric, of_status

_WORDS = ("granularity", "scope", "scores", "batch_norm", "split")
_KNOWN = {"batch_norm": ("kept", "recalibrated", "none"), "split": ("train", "validation", "test")}
_NOT_METRICS = (*POINT_COLUMNS, *COUNT_COLUMNS, *COST_COLUMNS, "examples")


def read_points(run: Run) -> pd.DataFrame:
    """Return all evaluations in a run's sweeps, in their original order. Only the last of repeated ones is kept.

    Raises:
        DamagedRun: there are none, the file has changed, columns are missing, or a value is invalid.
    """
    return pd.DataFrame(read_columns(run))


def read_columns(run: Run, status: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
    """Return the same as `read_points`, as one list per column.

    Args:
        status: the content of status.json, if it has just been read.
    """
    rows = run.pruning_rows(status)
    if not rows:
        raise DamagedRun(f"{run.folder} has no rows in {run.pruning_file.name}; run prune {run.folder} makes them")
    if not _complete(rows[0]) or not set(rows[0]) - set(_NOT_METRICS):
        raise run.damaged_rows(ValueError("columns are missing"))
    # Converting the columns of a frame one by one would take most of the time of a big table.
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
    for column, known in _KNOWN.items():
        if unknown := sorted(set(columns[column]) - set(known)):
            raise run.damaged_rows(ValueError(f"{column} {unknown[0]!r}; expected {', '.join(known)}"))
    try:
        for name in columns.keys() - set(_WORDS):
            columns[name] = [float(value or "nan") if name in COST_COLUMNS else float(value) for value in columns[name]]
    except ValueError as error:
        raise run.damaged_rows(error) from None
    # Round fractions so that rows of several runs match: 0.30000000000000004 is 0.3.
    for name in ("floor", "sparsity"):
        columns[name] = [round(value, 9) for value in columns[name]]
    last: dict[tuple[Any, ...], int] = {}
    for index, key in enumerate(zip(*(columns[name] for name in POINT_COLUMNS), strict=True)):
        last.pop(key, None)
        last[key] = index
    return {name: [values[index] for index in last.values()] for name, values in columns.items()}


def is_unpruned(points: pd.DataFrame) -> "pd.Series[bool]":
    """Return a mask of the rows for the unpruned network, i.e. with floor 0 and sparsity 0."""
    return (points["floor"] == 0) & (points["sparsity"] == 0)


def of_sweeps(points: pd.DataFrame, run: Sequence[str] = ()) -> pd.DataFrame:
    """Return a run's points, except the points for the unpruned network that a sweep with a floor adds.

    Args:
        run: the column that identifies the run of each point, if there are several runs.
    """
    rules = [*run, "granularity", "scope", "scores"]
    alone = is_unpruned(points) & ~_any(points, points["floor"].eq(0) & points["sparsity"].gt(0), rules)
    return points[~alone | ~_any(points, ~alone, [*run, "granularity"])]


def unpruned_points(points: pd.DataFrame, run: Sequence[str] = ()) -> pd.DataFrame:
    """Return a run's points for the unpruned network, one per granularity, BatchNorm mode and split.

    Args:
        run: see `of_sweeps`.
    """
    return points[is_unpruned(points)].drop_duplicates([*run, "granularity", "batch_norm", "split"])


def _any(points: pd.DataFrame, condition: "pd.Series[bool]", by: list[str]) -> "pd.Series[bool]":
    """Return, for each row, whether the condition holds for any row with the same values in `by`."""
    return condition.groupby([points[name] for name in by]).transform("any")


def metrics_of(columns: Iterable[str]) -> list[str]:
    """Return those of a table's columns that are metrics, the task's own first and `loss` last."""
    return [column for column in columns if column not in _NOT_METRICS]


def statistics(metric: Metric) -> dict[str, pd.NamedAgg]:
    """Return aggregations over seeds for `groupby().agg`.

    These are the mean, the standard deviation (with n - 1 in the denominator) and the number of seeds.
    """
    return {name: pd.NamedAgg(metric.name, how) for name, how in (("mean", "mean"), ("std", "std"), ("n", "count"))}


def own_floors(run: Run) -> dict[str, float]:
    """Return the floors of the run's variant; see `runner.runs.floors_of`."""
    return floors_of(run.status(), run.config())


def own_scope(run: Run) -> str:
    """Return the scope of the run's variant; see `runner.runs.scope_of`."""
    return scope_of(run.status())


def headline_of(run: Run, columns: Iterable[str], status: Mapping[str, Any] | None = None) -> Metric:
    """Return the task's headline metric.

    Args:
        columns: the columns of pruning.csv.
        status: the content of status.json, if it has just been read.

    Raises:
        DamagedRun: the status names no metric, or one that was not measured.
    """
    status = run.status() if status is None else status
    headline = status.get("headline")
    metric = headline.get("metric") if isinstance(headline, dict) else None
    if metric not in metrics_of(columns):
        raise DamagedRun(f"{run.status_file} is damaged: its headline metric {metric} is not in pruning.csv")
    return of_status(status, str(metric))


def the_split(points: pd.DataFrame) -> str:
    """Return `test`, or the first split that was measured if there are no test points."""
    splits = list(points["split"].unique())
    return "test" if "test" in splits else str(splits[0])


def shown_points(run: Run) -> tuple[pd.DataFrame, pd.DataFrame, Metric, str]:
    """Return the data for a run's own figure and summary.

    Returns:
        The points of its sweeps, the points for the unpruned network, the metric and the split.

    Raises:
        DamagedRun: see `read_points` and `headline_of`.
    """
    points = read_points(run)
    metric, split = headline_of(run, points.columns), the_split(points)
    points = points[points["split"] == split]
    return of_sweeps(points), unpruned_points(points), metric, split


def _complete(row: dict[str, str]) -> bool:
    return all(column in row for column in (*POINT_COLUMNS, *COUNT_COLUMNS))
