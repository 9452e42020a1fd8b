"""Choose the number of features to keep: the elbow of a curve, or the fewest that are about as good as all."""

import math
from collections.abc import Sequence

_BENT = 1e-9  # minimum distance from the chord, relative to the axes; less is rounding


def elbow(ks: Sequence[int], values: Sequence[float], higher_is_better: bool = False) -> int | None:
    """Return the k whose point is farthest from the line between the curve's first and last points, on the better side.

    Both axes are scaled to [0, 1], and the horizontal axis is log k, as in the figures. Every doubling of k counts
    equally, so that a long tail of nearly useless features hardly changes the elbow.

    Args:
        ks: ascending, at least 1.

    Returns:
        The elbow, or None if there is none, e.g. because no point is on the better side.
    """
    if len(ks) < 3 or values[0] == values[-1] or not all(map(math.isfinite, values)):
        return None
    x = [math.log(k / ks[0]) / math.log(ks[-1] / ks[0]) for k in ks]
    sign = 1 if higher_is_better else -1
    # The better side is above the line for scores and below it for losses. Vertical distances have the same order as
    # perpendicular ones.
    span = abs(values[-1] - values[0])
    y = [sign * (value - values[0]) / span for value in values]
    gains = [up - across * y[-1] for across, up in zip(x, y, strict=True)]
    best = max(gains)
    return ks[gains.index(best)] if best > _BENT else None


def fewest(
    ks: Sequence[int], values: Sequence[float], tolerance: float, higher_is_better: bool, absolute: bool
) -> int | None:
    """Return the smallest k whose value is within a tolerance of the last value, i.e. the value for all features.

    Args:
        tolerance: a fraction of the last value, or a value in the metric's units if `absolute`.

    Returns:
        The smallest k, or None if the last value is NaN.
    """
    full = values[-1]
    room = tolerance if absolute else tolerance * abs(full)
    for k, value in zip(ks, values, strict=True):
        if (value >= full - room) if higher_is_better else (value <= full + room):
            return k
    return None
