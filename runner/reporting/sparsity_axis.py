"""The sparsity axis of figures: linear, or logarithmic in the remaining fraction if sparsities exceed 90 %.

The logarithmic axis separates points such as 98 % and 99 %.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LINEAR_TO = 90  # percent
TICKS = (0, 30, 50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.98, 99.99, 100)
_LETTER = 0.019  # width of one character of a tick label, as a fraction of the axis

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SparsityAxis:
    """A mapping from sparsities in percent to positions: −log10 of the remaining fraction, or linear."""

    sparsities: Array
    shift: float | None  # added to the remaining fraction; None for a linear axis

    @classmethod
    def of(cls, sparsities: Iterable[float]) -> "SparsityAxis":
        """Create the axis for the given sparsities, in percent."""
        values = np.array(sorted(set(sparsities)), dtype=float)
        largest = values.max(initial=0.0)
        if largest <= LINEAR_TO:
            return cls(values, None)
        # 100 % has no logarithm. If it is shown, half of what remains at the next lower point is added to all points.
        return cls(values, (100 - values[values < 100]).min(initial=100 - LINEAR_TO) / 200 if largest == 100 else 0.0)

    @property
    def label(self) -> str:
        return "sparsity (%)" + ("" if self.shift is None else ", logarithmic in the remaining fraction")

    def forward(self, x: ArrayLike) -> Array:
        """Map sparsities in percent to positions."""
        if self.shift is None:
            return np.asarray(x, dtype=float)
        return -np.log10(np.maximum(1 + self.shift - np.asarray(x, dtype=float) / 100, 1e-9))

    def inverse(self, y: ArrayLike) -> Array:
        """Map positions to sparsities in percent."""
        if self.shift is None:
            return np.asarray(y, dtype=float)
        return 100 * (1 + self.shift - 10 ** -np.asarray(y, dtype=float))

    @property
    def limits(self) -> tuple[float, float]:
        """The positions of the two ends of the axis."""
        if self.shift is None:
            return -2.0, 102.0
        start, end = self.forward([self.sparsities.min(), self.sparsities.max()])
        margin = 0.03 * (end - start) or 0.1
        return float(start - margin), float(end + margin)

    @property
    def ticks(self) -> list[float]:
        """The sparsities to label, in ascending order, such that the labels do not overlap."""
        if self.shift is None:
            return [float(tick) for tick in range(0, 101, 10)]
        low, high = self.limits
        inside = [tick for tick in TICKS if low <= self.forward(tick) <= high]
        ticks: list[float] = []
        for tick in reversed(inside if len(inside) > 2 else list(self.sparsities)):
            letters = sum(len(f"{t:g}") for t in (tick, *ticks[-1:])) / 2
            room = (0.01 + _LETTER * letters) * (high - low) / 1.06
            if not ticks or self.forward(ticks[-1]) - self.forward(tick) > room:
                ticks.append(float(tick))
        return ticks[::-1]
