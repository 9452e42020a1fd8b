"""The differences between two runs: options, machine and results."""

import math
from collections.abc import Mapping
from typing import Any

from runner.config.rules import show
from runner.reporting.finding import Found
from runner.reporting.formats import NONE, UNPRUNED, number, percent
from runner.reporting.writing import padded

_MACHINE = ("device", "threads", "precision", "python", "versions", "git", "data", "state", "seconds", "note")


def difference(a: Found, b: Found) -> list[str]:
    """Return the lines of three tables that compare the options, machines and results of two runs, A and B."""
    names = list(dict.fromkeys([*a.config, *b.config]))
    options = [_row(name, a.config, b.config) for name in names if _differ(name, a.config, b.config)]
    about = [_row(name, a.status, b.status) for name in _MACHINE if _differ(name, a.status, b.status)]
    results = _results(a, b)
    lines = []
    for title, rows in (("Options", options), ("Machine and state", about)):
        lines += [f"{title}\n", *(padded([["", "A", "B"], *rows]) if rows else ["  the same"]), ""]
    return [*lines, "Results\n", *(padded(results) if len(results) > 1 else ["  no measurements in common"])]


def _differ(name: str, a: Any, b: Any) -> bool:
    return bool(a.get(name, NONE) != b.get(name, NONE))


def _row(name: str, a: Any, b: Any) -> list[str]:
    return [name, *(show(one[name]) if name in one else NONE for one in (a, b))]


def _results(a: Found, b: Found) -> list[list[str]]:
    """Return the headline metric of both runs, wherever both have measured it, and the difference B − A."""
    rows = [["granularity", "BatchNorm", "sparsity", "A", "B", "B − A"]]
    metric = a.metric
    if metric is None or b.metric is None or b.metric.name != metric.name:
        return rows
    ours, others = _by_place(a), _by_place(b)
    for place in (place for place in ours if place in others):
        x, y = float(ours[place][metric.name]), float(others[place][metric.name])
        change = NONE if math.isnan(y - x) else f"{'+' if y >= x else ''}{number(y - x, metric)}"
        rows.append([*place, number(x, metric), number(y, metric), change])
    return rows


def _by_place(found: Found) -> dict[tuple[str, str, str], Mapping[str, str]]:
    """Map (granularity, BatchNorm mode, sparsity or "unpruned") to rows of pruning.csv.

    If a floor was used, the rows below it belong to the network pruned at the floor.
    """
    floored = {row["granularity"] for row in found.rows if float(row["floor"]) > 0}
    places: dict[tuple[str, str, str], Mapping[str, str]] = {}
    for row in found.rows:
        whole = float(row["floor"]) == 0 and float(row["sparsity"]) == 0
        if float(row["floor"]) > 0 or whole or row["granularity"] not in floored:
            at = f"{percent(float(row['sparsity']))} %"
            names = [UNPRUNED] if whole else []
            names += [at] if not whole or row["granularity"] not in floored else []
            places |= {(row["granularity"], row["batch_norm"], name): row for name in names}
    return places
