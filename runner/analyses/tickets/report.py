"""The results and costs of masked training runs and their source runs, with mean and standard deviation over seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from runner.reporting.formats import NONE, mean_and_deviation, metric_label
from runner.reporting.writing import padded
from runner.tasks.metrics import Metric

# The meaning of each row, for the notes below a table.
METHODS = {
    "dense": "the trained run itself; with targeted dropout, pruned at its γ as in its own sweep",
    "pruned": "the run pruned once, without further training",
    "finetuned": "the run pruned once, then trained further from its final weights",
    "finetuned iteratively": "pruned in small steps, each followed by further training from the final weights",
    "ticket": "the run's mask applied to rewound weights, then trained",
    "fresh": "the run's mask applied to other initial weights, then trained",
    "random": "a random mask of equal sparsity in every part, on rewound weights, trained; needs no other training",
    "iterative": "iterative magnitude pruning: pruned in small steps, each followed by rewinding and training",
}
_KEY = ["column", "method"]
_BASE = "iterative"  # the method with which the costs of others are compared
_COSTS = ("actual_sparsity", "epochs", "total_epochs", "seconds", "total_seconds")


@dataclass(frozen=True)
class Outcome:
    """The result of one sparse training method for one run."""

    column: str  # name of the group of runs that differ only in their seed
    method: str
    seed: int
    epochs: float  # of training, without that of the source run
    seconds: float
    total_epochs: float  # including everything that had to be trained before
    total_seconds: float
    actual_sparsity: float
    values: Mapping[tuple[str, str], float] = field(default_factory=dict)  # (split, batch_norm) → the headline metric


def table(outcomes: Sequence[Outcome], metric: Metric, granularity: str, sparsity: float) -> pd.DataFrame:
    """Return one row per column, method, split and BatchNorm mode. Standard deviations use n - 1.

    `saved_epochs` and `saved_seconds` are the savings as a fraction of the total cost of iterative magnitude pruning.
    They are missing unless exactly one column has this method.
    """
    rows = pd.DataFrame(
        [
            {**{name: getattr(one, name) for name in (*_KEY, *_COSTS)}, "split": split, "batch_norm": norm, "x": value}
            for one in outcomes
            for (split, norm), value in one.values.items()
        ]
    )
    means = {name: (name, "mean") for name in _COSTS}
    made = rows.groupby([*_KEY, "split", "batch_norm"], as_index=False, sort=False).agg(
        **{"mean": ("x", "mean"), "std": ("x", "std"), "n": ("x", "count"), **means}
    )
    base = made[made["method"] == _BASE]
    for name in ("epochs", "seconds") if base["column"].nunique() == 1 else ():
        total = float(base[f"total_{name}"].iloc[0])
        made[f"saved_{name}"] = 1 - made[f"total_{name}"] / total if total else math.nan
    made.insert(4, "metric", metric.name)
    made.insert(5, "granularity", granularity)
    made.insert(6, "sparsity", sparsity)
    return made


def markdown(rows: pd.DataFrame, metric: Metric, title: str, notes: Sequence[str] = ()) -> str:
    """Return a Markdown table with one row per column and method.

    Epochs and seconds are given for the method alone and for the total, which includes everything trained before.
    """
    there = set(zip(rows["split"], rows["batch_norm"], strict=True))
    # Only some columns are shown; the CSV file has all.
    heads = {("test", "kept"): metric_label("test", metric), ("test", "none"): metric_label("test", metric)}
    heads |= {("test", "recalibrated"): "recalibrated", **{("validation", n): "validation" for n in ("kept", "none")}}
    shown = [pair for pair in heads if pair in there]
    costs = ["epochs", "total epochs", "seconds", "total seconds"]
    saved = [f"saved_{name}" for name in ("epochs", "seconds") if f"saved_{name}" in rows]
    savings = [f"{name.removeprefix('saved_')} saved (%)" for name in saved]
    lines = [["run", "then", *(heads[pair] for pair in shown), "zero (%)", *costs, *savings, "seeds"]]
    for (column, method), part in rows.groupby(_KEY, sort=False):
        values = {(str(row["split"]), str(row["batch_norm"])): row for _, row in part.iterrows()}
        first = part.iloc[0]
        lines.append(
            [
                *(str(column), str(method)),
                *(_value(values.get(pair), metric) for pair in shown),
                f"{100 * float(first['actual_sparsity']):.2f}",
                *(f"{float(first[name]):.4g}" for name in ("epochs", "total_epochs")),
                *(f"{float(first[name]):.1f}" for name in ("seconds", "total_seconds")),
                *(f"{100 * float(first[name]):.0f}" for name in saved),
                str(first["n"]),
            ]
        )
    meanings = [f"{method}: {METHODS[method]}." for method in METHODS if method in set(rows["method"])]
    if saved:
        meanings.append(f"saved: relative to the total of {_BASE}; negative where more was trained.")
    return "\n".join([f"## {title}", "", *padded(lines), "", *(f"- {note}" for note in [*meanings, *notes])]) + "\n"


def _value(row: "pd.Series | None", metric: Metric) -> str:
    return NONE if row is None else mean_and_deviation(float(row["mean"]), float(row["std"]), metric)
