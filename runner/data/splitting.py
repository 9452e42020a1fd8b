"""Stratified splits: the same images on every machine, whatever the run's seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_fraction(option: str, value: Any) -> None:
    """ValueError, naming the option, unless `value` is a number in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{option}={value}: allowed is a fraction from 0 to below 1")


def stratified_fraction(
    labels: NDArray[Any], fraction: float, option: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (kept, taken), `taken` holding `fraction` of the labels: at least one if `fraction` is above 0.

    ValueError, naming `option`, if the fraction is outside [0, 1) or leaves nothing behind.
    """
    check_fraction(option, fraction)
    count = max(1, round(fraction * len(labels))) if fraction > 0 else 0
    if count >= len(labels):
        raise ValueError(
            f"{option}={fraction}: takes all {len(labels)} images; allowed is a smaller fraction from 0 on"
        )
    return stratified_count(labels, count)


def stratified_count(labels: NDArray[Any], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (kept, taken), both ascending; each class gives its share of `count`, rounded by largest remainder.

    `count` is below the number of labels. Every class keeps at least one image, so with classes of a single
    image fewer than `count` may be taken.
    """
    classes, members = np.unique(labels, return_counts=True)
    shares = members * (count / len(labels))
    quotas = np.floor(shares + 1e-9).astype(np.int64)
    order = np.argsort(quotas - shares, kind="stable")
    while (short := count - quotas.sum()) > 0 and len(roomy := order[(quotas < members - 1)[order]]):
        quotas[roomy[:short]] += 1
    # RandomState, not default_rng: NumPy promises that its stream never changes, and the split must not either.
    random = np.random.RandomState(0)
    chosen = [
        random.permutation(np.flatnonzero(labels == name))[:quota] for name, quota in zip(classes, quotas, strict=True)
    ]
    taken = np.sort(np.concatenate(chosen)).astype(np.int64)
    return np.setdiff1d(np.arange(len(labels)), taken), taken
