"""A trained network whose features stand in an order at every feature place, so that the first k can be kept."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from runner.pruning.apply import apply_masks, restore
from runner.pruning.granularities.feature import FeatureMembers
from runner.pruning.sweep import statistics
from runner.ranking import count, ranks
from runner.tasks.metrics import names_of

ALL = "all"  # the name of all places together
_EVERY = 32  # features of which every k is measured
_SOME = 24  # about as many k of more features


class Ordered:
    """The order of the features: by the variant's own scores, where there are none by the norm of their filters.

    Args:
        model: plain, trained.
        own: a place's consumer → scores (features,); the highest are kept longest.

    Raises:
        ValueError: the model declares no feature places.
    """

    def __init__(self, model: nn.Module, own: Mapping[str, Tensor]) -> None:
        self.model, self.cut = model, FeatureMembers(model)
        scores = self.cut.rows(own)
        self.positions = {name: len(row[0]) - 1 - ranks(row)[0] for name, row in scores.items()}  # 0: goes last
        self.widths = {name: len(position) for name, position in self.positions.items()}
        self.trained = {name: weight.detach().clone() for name, weight in self.cut.weights.items()}

    def features(self, place: str) -> Tensor:
        """(features,) int64: their indices, the one that is kept longest first."""
        return self.positions[place].argsort()

    @contextmanager
    def first(self, kept: Mapping[str, int]) -> Iterator[None]:
        """While it lasts only the first k features of the named places are there; others have all of theirs."""
        pruned = {n: (position >= kept.get(n, len(position)))[None] for n, position in self.positions.items()}
        apply_masks(self.cut.weights, self.trained, self.cut.masks(pruned))
        try:
            yield
        finally:
            restore(self.cut.weights, self.trained)


@dataclass(frozen=True)
class Cut:
    """One thing to measure: `kept` features of each place that is cut, k of n together."""

    place: str  # a consumer's name, or "all"
    k: int
    n: int
    kept: Mapping[str, int]


def some_ks(n: int, asked: Sequence[int] | None = None) -> list[int]:
    """Which k of n are measured: the asked ones; or all of up to 32, else about 24 at even ratios. n is among them."""
    if asked is not None:
        return sorted({n, *(k for k in asked if k <= n)})
    return list(range(1, n + 1)) if n <= _EVERY else sorted({round(n ** (i / (_SOME - 1))) for i in range(_SOME)})


def cuts(
    widths: Mapping[str, int], together: Mapping[str, int], places: Iterable[str], asked: Sequence[int] | None = None
) -> list[Cut]:
    """The cuts of each place alone, and, where "all" is among them, of several by the same fraction.

    The fraction is k / n of the widest place; of the others so many are kept as a sweep at sparsity 1 - k / n keeps.

    Args:
        widths: how many features each place has.
        together: the same of those that "all" means.
    """
    found = []
    for place in places:
        if place != ALL:
            found += [Cut(place, k, widths[place], {place: k}) for k in some_ks(widths[place], asked)]
            continue
        widest = max(together.values())
        for k in some_ks(widest, asked):
            kept = {name: n - count(1 - k / widest, n) for name, n in together.items()}
            found.append(Cut(ALL, sum(kept.values()), sum(together.values()), kept))
    return found


@dataclass(frozen=True)
class Meter:
    """Measures one trained network.

    Args:
        context: makes the context of a forward pass (autocast).
        batch_norm: "kept" as trained, or "recalibrated" for every cut.
        limit: how many examples of a split; None: all.
        seed: of the augmentation of the images that BatchNorm is recalibrated on.
    """

    ordered: Ordered
    task: Any
    data: Any
    context: Callable[[], AbstractContextManager[object]] = nullcontext
    batch_norm: str = "kept"
    limit: int | None = None
    seed: int = 0

    def measure(
        self, asked: Iterable[Cut], advance: Callable[[], object] = lambda: None
    ) -> Iterator[tuple[Cut, str, dict[str, float]]]:
        """Cut, split (validation, test), the task's metrics and the loss; cuts that keep the same are measured once.

        Args:
            advance: called after every cut.
        """
        splits = [split for split in ("validation", "test") if split in self.data.splits]
        known: dict[tuple[tuple[str, int], ...], dict[str, dict[str, float]]] = {}
        self.ordered.model.eval()
        for cut in asked:
            key = tuple((name, k) for name, k in cut.kept.items() if k < self.ordered.widths[name])
            if key not in known:
                with (
                    self.ordered.first(cut.kept),
                    self.context(),
                    statistics(self.ordered.model, self.data, self.batch_norm, self.seed),
                ):
                    known[key] = {split: self._evaluate(split) for split in splits}
            for split, values in known[key].items():
                yield cut, split, values
            advance()

    def _evaluate(self, split: str) -> dict[str, float]:
        values = self.task.evaluate(self.ordered.model, self.data.eval_batches(split, self.limit))
        names = dict.fromkeys([*names_of(self.task.sweep_metrics), "loss"])
        if values["loss"] == values[self.task.headline]:  # the same thing under two names
            del names["loss"]
        return {name: float(values[name]) for name in names}
