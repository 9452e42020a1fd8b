"""Metrics: their names, how they are printed, and whether higher is better. This module does not import torch.

A task declares its metrics. A run stores them in status.json, so that tables and figures only need run folders.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A metric by which networks are evaluated.

    Args:
        name: name of the column in pruning.csv; metrics.csv has it with the prefixes `train_` and `validation_`.
        label: label in tables and figures; defaults to the name with underscores replaced by spaces.
        percent: whether values are in [0, 1] and printed in percent.
        higher_is_better: whether larger values are better.
        decimals: number of printed decimals. None prints percentages with two decimals and other values with four
            significant digits.
    """

    name: str
    label: str = ""
    percent: bool = False
    higher_is_better: bool = True
    decimals: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.name.replace("_", " "))

    @property
    def scale(self) -> float:
        """The factor by which stored values are multiplied for printing."""
        return 100.0 if self.percent else 1.0

    @property
    def top(self) -> float | None:
        """The largest possible printed value, or None if there is none."""
        return 100.0 if self.percent else None


LOSS = Metric("loss", higher_is_better=False)
ACCURACY = Metric("accuracy", percent=True)
MSE = Metric("mse", "mean squared error", higher_is_better=False)
BLEU = Metric("bleu", "BLEU", decimals=2)
BLEU_UNCASED = Metric("bleu_uncased", "BLEU uncased", decimals=2)
EXACT_MATCH = Metric("exact_match", percent=True)
TOKEN_ACCURACY = Metric("token_accuracy", percent=True)
BITS_PER_BYTE = Metric("bits_per_byte", higher_is_better=False, decimals=3)
PERPLEXITY = Metric("perplexity", higher_is_better=False)
COSINE = Metric("cosine", "cosine with the target", decimals=3)
SPEARMAN = Metric("spearman", "rank correlation of similarities", decimals=3)
NEAREST = Metric("nearest", "same nearest neighbour", percent=True)
# Published tables, and run folders from before metrics were stored, only name these.
_KNOWN = {one.name: one for one in (LOSS, ACCURACY, MSE, BLEU, BLEU_UNCASED, EXACT_MATCH, TOKEN_ACCURACY)}


def by_name(name: str) -> Metric:
    """Return the known metric of this name, or else a metric with default settings."""
    return _KNOWN.get(name, Metric(name))


def as_metrics(declared: Iterable[Metric | str]) -> list[Metric]:
    """Return a task's declared metrics; a string stands for the metric of that name."""
    return [by_name(one) if isinstance(one, str) else one for one in declared]


def names_of(declared: Iterable[Metric | str]) -> list[str]:
    """Return the column names of a task's declared metrics."""
    return [metric.name for metric in as_metrics(declared)]


def of_task(task: Any) -> dict[str, Metric]:
    """Return all metrics that a task's `validate` and `evaluate` return, by name, with the loss last."""
    return {one.name: one for one in (*as_metrics([*task.sweep_metrics, *task.metrics]), LOSS)}


def headline_of_task(task: Any) -> Metric:
    """Return a task's headline metric."""
    return of_task(task).get(task.headline, Metric(task.headline))


def stored(metrics: Iterable[Metric]) -> list[dict[str, Any]]:
    """Convert metrics to plain values, as stored in status.json."""
    return [asdict(one) for one in metrics]


def _well_typed(stored: Mapping[str, Any]) -> bool:
    """Return whether values have the types required for printing; other programs may have written the file."""
    kinds: dict[str, Any] = {"name": str, "label": str, "decimals": int | None}
    return all(isinstance(value, kinds.get(name, bool)) for name, value in stored.items())


def of_status(status: Mapping[str, Any], name: str) -> Metric:
    """Return the metric of a column as described in a run's status.json, with `by_name` as a fallback."""
    known = {field.name for field in fields(Metric)}
    for one in status.get("metrics") or []:
        if isinstance(one, Mapping) and one.get("name") == name and set(one) <= known and _well_typed(one):
            return Metric(**one)
    headline = status.get("headline")
    if name not in _KNOWN and isinstance(headline, Mapping) and headline.get("metric") == name:
        return replace(by_name(name), higher_is_better=bool(headline.get("higher_is_better", True)))
    return by_name(name)
