"""Metrics: what they are called, how they are printed, which way is better. Imports no torch.

A task declares its own; a run keeps them in status.json, so that tables and figures need nothing but run folders.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Metric:
    """One number that judges a network.

    Args:
        name: of its column in metrics.csv and pruning.csv.
        label: in tables and figures; without one the name, with spaces.
        percent: whether it lies in [0, 1] and is printed in percent.
        higher_is_better: its direction.
        decimals: printed after the point; None prints two of a percentage and four significant digits of all others.
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
        """What a stored value is multiplied by to be printed."""
        return 100.0 if self.percent else 1.0

    @property
    def top(self) -> float | None:
        """The greatest value, as printed; None where there is none."""
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
# Of the tasks here: run folders and published tables from before metrics were stored name no more than these.
_KNOWN = {one.name: one for one in (LOSS, ACCURACY, MSE, BLEU, BLEU_UNCASED, EXACT_MATCH, TOKEN_ACCURACY)}


def by_name(name: str) -> Metric:
    """The metric of a name, one of the tasks here or printed as it is."""
    return _KNOWN.get(name, Metric(name))


def as_metrics(declared: Iterable[Metric | str]) -> list[Metric]:
    """Metrics that a task declares; a name alone stands for the metric of that name."""
    return [by_name(one) if isinstance(one, str) else one for one in declared]


def names_of(declared: Iterable[Metric | str]) -> list[str]:
    """The columns of metrics that a task declares."""
    return [metric.name for metric in as_metrics(declared)]


def of_task(task: Any) -> dict[str, Metric]:
    """Name → metric of all that a task's `validate` and `evaluate` give, the loss last."""
    return {one.name: one for one in (*as_metrics([*task.sweep_metrics, *task.metrics]), LOSS)}


def headline_of_task(task: Any) -> Metric:
    """The metric by which a task judges networks."""
    return of_task(task).get(task.headline, Metric(task.headline))


def stored(metrics: Iterable[Metric]) -> list[dict[str, Any]]:
    """As status.json has them."""
    return [asdict(one) for one in metrics]


def _well_typed(stored: Mapping[str, Any]) -> bool:
    """Whether values are of the kinds that printing needs: the file may be a stranger's."""
    kinds: dict[str, Any] = {"name": str, "label": str, "decimals": int | None}
    return all(isinstance(value, kinds.get(name, bool)) for name, value in stored.items())


def of_status(status: Mapping[str, Any], name: str) -> Metric:
    """The metric of a run's column, as its status.json describes it; as `by_name` where it says nothing."""
    known = {field.name for field in fields(Metric)}
    for one in status.get("metrics") or []:
        if isinstance(one, Mapping) and one.get("name") == name and set(one) <= known and _well_typed(one):
            return Metric(**one)
    headline = status.get("headline")
    if name not in _KNOWN and isinstance(headline, Mapping) and headline.get("metric") == name:
        return replace(by_name(name), higher_is_better=bool(headline.get("higher_is_better", True)))
    return by_name(name)
