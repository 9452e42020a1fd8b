"""Which numbers of features are measured. A cut is a point of a pruning sweep over the features of some places."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runner.pruning.sweep import Point
from runner.ranking import count

ALL = "all"  # the name of all places together
_EVERY = 32  # features of which every k is measured
_SOME = 24  # about as many k of more features


@dataclass(frozen=True)
class Cut:
    """One network to measure: k of n features are kept, those that rank highest."""

    place: str  # a consumer's name, or "all"
    k: int
    n: int
    sparsity: float  # of each place

    def point(self, batch_norm: str, split: str) -> Point:
        """The point of a sweep whose granularities are the places."""
        return Point(self.place, "layer", "own", 0.0, batch_norm, self.sparsity, split)


def some_ks(n: int, asked: Sequence[int] | None = None) -> list[int]:
    """Which k of n are measured: the asked ones; or all of up to 32, else about 24 at even ratios. n is among them."""
    if asked is not None:
        return sorted({n, *(k for k in asked if k <= n)})
    return list(range(1, n + 1)) if n <= _EVERY else sorted({round(n ** (i / (_SOME - 1))) for i in range(_SOME)})


def cuts(
    widths: Mapping[str, int], together: Mapping[str, int], places: Iterable[str], asked: Sequence[int] | None = None
) -> list[Cut]:
    """The cuts of each place alone, and, where "all" is among them, of several at the same sparsity.

    That sparsity is 1 - k / n of the widest place.

    Args:
        widths: how many features each place has.
        together: the same of those that "all" means.
    """
    found = []
    for place in places:
        if place != ALL:
            n = widths[place]
            found += [Cut(place, k, n, 1 - k / n) for k in some_ks(n, asked)]
            continue
        widest = max(together.values())
        for k in some_ks(widest, asked):
            sparsity = 1 - k / widest
            kept = sum(n - count(sparsity, n) for n in together.values())
            found.append(Cut(ALL, kept, sum(together.values()), sparsity))
    return found
