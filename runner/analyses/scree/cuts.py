"""The numbers of features to measure. A cut is a point of a pruning sweep over the features at one or all places."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runner.pruning.sweep import Point
from runner.ranking import count

ALL = "all"  # the name of all places together
_EVERY = 32  # maximum number of features for which every k is measured
_SOME = 24  # approximate number of measured k for more features


@dataclass(frozen=True)
class Cut:
    """A network to measure, with the k highest-ranking of n features."""

    place: str  # a consumer's name, or "all"
    k: int
    n: int
    sparsity: float  # of each place

    def point(self, batch_norm: str, split: str) -> Point:
        """Return the corresponding point of a sweep whose granularities are the places."""
        return Point(self.place, "layer", "own", 0.0, batch_norm, self.sparsity, split)


def some_ks(n: int, asked: Sequence[int] | None = None) -> list[int]:
    """Return the numbers of features to measure, out of n and including n.

    By default, these are all numbers if n is at most 32, and otherwise about 24 numbers at equal ratios.
    """
    if asked is not None:
        return sorted({n, *(k for k in asked if k <= n)})
    return list(range(1, n + 1)) if n <= _EVERY else sorted({round(n ** (i / (_SOME - 1))) for i in range(_SOME)})


def cuts(
    widths: Mapping[str, int], together: Mapping[str, int], places: Iterable[str], asked: Sequence[int] | None = None
) -> list[Cut]:
    """Return the cuts at each place alone and, if "all" is given, at several places with a common sparsity.

    The common sparsity is 1 - k / n for the widest place.

    Args:
        widths: the number of features at each place.
        together: the number of features at each place that belongs to "all".
        places: the names of places, or "all".
        asked: the requested k, if any.
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
