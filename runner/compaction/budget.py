"""Select the best pruned network within a budget from the results of finished sweeps."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from runner.reporting.formats import COSTS

KEY = ["run", "granularity", "scope", "scores", "floor", "batch_norm", "sparsity"]
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}


@dataclass(frozen=True)
class Choice:
    """All candidate networks, the best for a budget first.

    Attributes:
        candidates: one row per network, best first, with the columns of KEY, the costs, the metric on the validation
            split, and the boolean `within`, which tells whether the network meets the budget.
        met: whether the first candidate meets the budget. If not, it is the one that comes closest.
    """

    candidates: pd.DataFrame
    met: bool


def amount(value: Any) -> float:
    """Parse a number or a string such as 100k, 1.5M or 1MB.

    Raises:
        ValueError: the value is neither, or is not positive.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?) ?([kmg]?)b?", str(value).strip().lower())
    if not found or not float(found[1]):
        raise ValueError("a number above 0, also as 100k, 1.5M or 1MB")
    return float(found[1]) * _UNITS[found[2]]


def seconds(value: Any) -> float:
    """Convert a string such as 5ms, 300us or 0.1s to seconds.

    Raises:
        ValueError: the value isn't a positive time with a unit.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(us|µs|ms|s)", str(value).strip().lower())
    if not found or not float(found[1]):
        raise ValueError("a time above 0 with its unit, as 5ms, 300us or 0.1s")
    return float(found[1]) * {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]]


def null_or(parse: Callable[[Any], float]) -> Callable[[Any], str | None]:
    """Return the rule for an option whose value is null or can be parsed by `parse`."""

    def rule(value: Any) -> str | None:
        try:
            if value is not None:
                parse(value)
        except ValueError as error:
            return f"null or {error}"
        return None

    return rule


def choose(
    points: pd.DataFrame, metric: str, higher_is_better: bool, limits: Mapping[str, float], drop: float | None, by: str
) -> Choice:
    """Rank networks by a budget.

    With `drop`, the network with the lowest cost `by` among those within `drop` and the limits comes first. Without it,
    the network with the best metric within the limits comes first.

    Args:
        points: rows of several runs for one split, with the columns of KEY, the costs and the metric.
        limits: the upper bound of each cost, by name.
        drop: the largest allowed loss in the metric, compared with the best unpruned network.
        by: the cost to minimise; without `drop`, it only breaks ties.

    Raises:
        ValueError: no row has costs and a metric, or `drop` is given but no row belongs to an unpruned network.
    """
    known = points.dropna(subset=[*COSTS, metric])
    if known.empty:
        raise ValueError(f"no rows with costs and {metric}")
    # Below a floor, all rows describe the same network. Keep the row whose sparsity is closest to the floor.
    found = known.drop_duplicates([*KEY[:-1], *COSTS, metric], keep="last").copy()
    sign = 1.0 if higher_is_better else -1.0
    excess = pd.Series(0.0, index=found.index)  # how far a network exceeds the budget, as fractions of each limit
    for cost, limit in limits.items():
        excess += (found[cost] / limit - 1).clip(lower=0)
    if drop is not None:
        whole = sign * points.loc[(points["floor"] == 0) & (points["sparsity"] == 0), metric]
        if whole.empty:
            raise ValueError("no row of an unpruned network")
        found["lost"] = float(whole.max()) - sign * found[metric]
        over = (found["lost"] - drop).clip(lower=0)
        excess += over.where(over > 1e-9, 0.0) / max(abs(float(whole.max())), 1e-9)
    found = found.assign(within=excess == 0, excess=excess, score=-sign * found[metric])
    order = [by, "score"] if drop is not None else ["score", by]
    inside = found[found["within"]].sort_values(order, kind="stable")
    outside = found[~found["within"]].sort_values(["excess", *order], kind="stable")
    ranked = pd.concat([inside, outside]).drop(columns=["excess", "score"]).reset_index(drop=True)
    return Choice(ranked, bool(len(inside)))


def within_latency(
    choice: Choice, limit: float, measure: Callable[[list[dict[str, Any]]], Sequence[tuple[float, str]]]
) -> Choice:
    """Return a choice in which only candidates that also take at most `limit` milliseconds are within the budget.

    Networks that exceed the rest of the budget are not measured, nor are those ranked below a network that needs no
    more FLOPs and no more bytes. Networks that are not measured don't count as within the budget.

    Args:
        measure: function that takes the rows of candidates and returns, for each, its latency in milliseconds and the
            way it was executed. These become the columns `latency_ms` and `executed_by`.
    """
    table = choice.candidates.copy()
    inside = table.index[table["within"] & ~_dominated(table)]
    measured = list(measure([dict(row) for _, row in table.loc[inside].iterrows()]))
    table.loc[inside, "latency_ms"] = [milliseconds for milliseconds, _ in measured]
    table["executed_by"] = pd.Series([way for _, way in measured], index=inside, dtype=object)
    table["within"] &= table["latency_ms"] <= limit
    slow = table["latency_ms"].where(~table["within"])
    ranked = table.assign(slow=slow.fillna(np.inf)).sort_values(
        ["within", "slow"], ascending=[False, True], kind="stable"
    )
    return Choice(ranked.drop(columns="slow").reset_index(drop=True), bool(table["within"].any()))


def _dominated(table: pd.DataFrame) -> "pd.Series[bool]":
    """Return whether each row is dominated by a higher-ranked network that costs no more."""
    costs = table[["flops", "bytes"]].to_numpy()
    found = [bool((costs[:index] <= costs[index]).all(1).any()) for index in range(len(costs))]
    return pd.Series(found, index=table.index)


def pareto(points: pd.DataFrame, cost: str, metric: str, higher_is_better: bool) -> pd.DataFrame:
    """Return the Pareto-optimal rows for a cost and a metric, cheapest first."""
    ordered = points.dropna(subset=[cost]).sort_values([cost, metric], ascending=[True, not higher_is_better])
    best = ordered[metric].cummax() if higher_is_better else ordered[metric].cummin()
    return ordered[(ordered[metric] == best) & (best != best.shift())]
