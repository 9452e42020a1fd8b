"""Find runs by options and results, for `run list`, `run show` and `run diff`.

This module imports neither pandas nor torch.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from runner.config.identity import with_defaults
from runner.config.rules import leaves
from runner.errors import ConfigError, UserError
from runner.runs import Run, floors_of, own_scopes, scope_of, shown_floors
from runner.tasks.metrics import Metric, of_status

UNREADABLE = (UserError, KeyError, TypeError, ValueError, AttributeError)
STATES = ("finished", "running", "interrupted", "failed", "damaged")
SPARSITIES = (0.0, 0.5, 0.75, 0.9)  # at which results are listed


def matches(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a run's configuration, given by dotted names, has the requested values.

    A group's name stands for its choice, as in `dropout: none`. A list stands for any of its values.
    """

    def fits(name: str, value: Any) -> bool:
        has = config.get(name, config.get(f"{name}.name"))
        return bool(has == value or (isinstance(value, list) and has in value))

    return all(fits(name, value) for name, value in wanted.items())


@dataclass(frozen=True)
class Found:
    """One run with all its information that can be read.

    Attributes:
        config: the values by dotted name, or {} for a damaged run.
        metric: the headline metric, or None if the run was not swept.
        rows: the rows of pruning.csv for the test split and the run's own scores, scope and floor, and those for the
            unpruned network.
        error: the reason why the run failed or cannot be read, or "".
        stored: the nested configuration as stored, or {} for a damaged run.
    """

    run: Run
    state: str
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    metric: Metric | None
    rows: Sequence[Mapping[str, str]]
    error: str
    stored: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, run: Run) -> "Found":
        try:
            status = run.status()
            state = run.state_of(status)
            stored = run.config(status)
            rows = own_sweeps(run.pruning_rows(status), status, stored)
            metric = of_status(status, status["headline"]["metric"]) if rows else None
        except UNREADABLE as error:
            return cls(run, "damaged", {}, {}, None, (), str(error))
        return cls(
            run,
            state,
            dict(leaves(with_defaults(stored))),
            status,
            metric,
            rows,
            str(status.get("error") or ""),
            stored,
        )

    def at(self, metric: str, sparsity: float) -> float:
        """Return the best value of a metric at a sparsity, over all granularities and BatchNorm modes.

        The value is NaN if the metric was not measured at this sparsity.
        """
        values = [to_float(row.get(metric)) for row in self.rows if math.isclose(to_float(row["sparsity"]), sparsity)]
        values = [value for value in values if not math.isnan(value)]
        if not values:
            return math.nan
        return max(values) if of_status(self.status, metric).higher_is_better else min(values)

    def as_json(self) -> dict[str, Any]:
        """Return the run as plain values, including the headline metric by granularity, BatchNorm mode and sparsity."""
        about = {name: self.status.get(name) for name in ("note", "started", "seconds", "device", "git", "command")}
        results = [
            {
                **{name: row[name] for name in ("granularity", "batch_norm")},
                **{name: to_float(row[name]) for name in ("sparsity", "floor")},
                self.metric.name: to_float(row[self.metric.name]),
            }
            for row in (self.rows if self.metric else ())
            if self.metric
        ]
        return {
            **{"folder": str(self.run.folder), "state": self.state, "error": self.error or None},
            **about,
            "config": dict(self.config),
            "results": results,
        }


def own_sweeps(
    rows: Iterable[Mapping[str, str]], status: Mapping[str, Any], config: Mapping[str, Any], split: str = "test"
) -> list[Mapping[str, str]]:
    """Return the rows of pruning.csv with the run's own scores, scope and floor, and those for the unpruned network.

    If a granularity was not swept with the floor of the run's variant, the floor of its first sweep counts.
    """
    rows = [row for row in rows if row["split"] == split and row["scores"] == "own"]
    scopes = own_scopes(((row["granularity"], row["scope"]) for row in rows if not _unpruned(row)), scope_of(status))
    rows = [row for row in rows if _unpruned(row) or row["scope"] == scopes[row["granularity"]]]
    swept = ((row["granularity"], _floor(row)) for row in rows if not _unpruned(row))
    floors = shown_floors(swept, floors_of(status, config))
    return [row for row in rows if _unpruned(row) or _floor(row) == floors[row["granularity"]]]


def _unpruned(row: Mapping[str, str]) -> bool:
    return float(row["floor"]) == 0 and float(row["sparsity"]) == 0


def _floor(row: Mapping[str, str]) -> float:
    return round(float(row["floor"]), 9)


def to_float(value: Any) -> float:
    """Convert a stored value to a number, or to NaN if this is impossible."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def chosen(found: Iterable[Found], wanted: Mapping[str, Any], state: Sequence[str] = ()) -> list[Found]:
    """Return the runs with the wanted option values and, if states are given, with one of these states.

    Raises:
        ConfigError: no run has such an option.
    """
    found = list(found)
    known = {name.removesuffix(".name") for one in found for name in one.config} | {n for o in found for n in o.config}
    for name in wanted:
        if known and name not in known:
            near = get_close_matches(name, known, n=1)
            raise ConfigError(f"{name}: no run has such an option{f'; did you mean {near[0]}?' if near else ''}")
    fitting = [one for one in found if matches(one.config, wanted)]
    return [one for one in fitting if not state or one.state in state]


def in_order(found: Sequence[Found], by: str) -> list[Found]:
    """Sort runs by `folder`, `state`, `started`, `seconds` or `METRIC@SPARSITY`.

    For a metric, the best run comes first and runs without a value come last.

    Raises:
        ConfigError: `by` is none of these, or no run has such a measurement.
    """
    if by == "folder":
        return sorted(found, key=lambda one: str(one.run.folder))
    if by == "state":
        return sorted(found, key=lambda one: (one.state, str(one.run.folder)))
    if by == "started":
        return sorted(found, key=lambda one: str(one.status.get("started") or ""))
    if by == "seconds":
        return sorted(found, key=lambda one: (math.isnan(to_float(one.status.get(by))), to_float(one.status.get(by))))
    metric, separator, sparsity = by.partition("@")
    at = to_float(sparsity)
    if not separator or not 0 <= at <= 1:
        raise ConfigError(f"sort={by}: expected folder, state, started, seconds or METRIC@SPARSITY, as accuracy@0.9")
    values = {id(one): one.at(metric, at) for one in found}
    if found and all(math.isnan(value) for value in values.values()):
        raise ConfigError(f"sort={by}: no run was measured so")
    # Each run states itself whether higher is better.
    readable = [one for one in found if one.state != "damaged"]
    sign = {id(one): -1.0 if of_status(one.status, metric).higher_is_better else 1.0 for one in readable}
    return sorted(found, key=lambda one: (math.isnan(values[id(one)]), sign.get(id(one), 1.0) * values[id(one)]))
