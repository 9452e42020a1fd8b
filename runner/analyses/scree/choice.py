"""How many features to keep: where a curve bends, and the fewest that are about as good as all."""

import math
from collections.abc import Sequence

_BENT = 1e-9  # of the axes' length; less is rounding


def elbow(ks: Sequence[int], values: Sequence[float], higher_is_better: bool = False) -> int | None:
    """The k at which the curve is farthest on the good side of its chord, the line from the first point to the last.

    Both axes are scaled to [0, 1]. Over log k, in which the curve is drawn: every doubling of k counts alike, so that a
    tail of features that do next to nothing hardly moves the elbow. None where no point is on that side.

    Args:
        ks: rising, at least 1.
    """
    if len(ks) < 3 or values[0] == values[-1] or not all(map(math.isfinite, values)):
        return None
    x = [math.log(k / ks[0]) / math.log(ks[-1] / ks[0]) for k in ks]
    sign = 1 if higher_is_better else -1
    # Above the chord for scores, below it for losses; measured up or down, which orders points as the distance does.
    span = abs(values[-1] - values[0])
    y = [sign * (value - values[0]) / span for value in values]
    gains = [up - across * y[-1] for across, up in zip(x, y, strict=True)]
    best = max(gains)
    return ks[gains.index(best)] if best > _BENT else None


def fewest(
    ks: Sequence[int], values: Sequence[float], tolerance: float, higher_is_better: bool, absolute: bool
) -> int | None:
    """The smallest k whose value is within the tolerance of the last one's, that of all features.

    Args:
        tolerance: a fraction of the last value, or, if `absolute`, in the metric's own units.

    Returns:
        None where the last value is no number.
    """
    full = values[-1]
    room = tolerance if absolute else tolerance * abs(full)
    for k, value in zip(ks, values, strict=True):
        if (value >= full - room) if higher_is_better else (value <= full + room):
            return k
    return None
