"""Stratified splits that are the same on every machine and for every seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.errors import ParameterError


def check_fraction(parameter: str, value: Any) -> None:
    """Raise a ParameterError unless `value` is a number in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ParameterError(parameter, value, "a fraction from 0 to below 1")


def stratified_fraction(
    labels: NDArray[Any], fraction: float, parameter: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices (kept, taken), where `taken` is a stratified fraction of the labels.

    The number of labels is rounded, but is at least 1 if `fraction` is above 0; see `stratified_count`.

    Raises:
        ParameterError: the fraction is outside [0, 1), or `kept` would be empty.
    """
    check_fraction(parameter, fraction)
    count = max(1, round(fraction * len(labels))) if fraction > 0 else 0
    if count >= len(labels):
        raise ParameterError(parameter, fraction, f"a smaller fraction: it takes all {len(labels)} images")
    return stratified_count(labels, count)


def stratified_count(labels: NDArray[Any], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices (kept, taken), both ascending. The share of each class in `count` is rounded by largest remainder.

    `count` must be less than the number of labels. Every class keeps at least one image, so that fewer than `count` may
    be taken if some classes have a single image.
    """
    classes, members = np.unique(labels, return_counts=True)
    shares = members * (count / len(labels))
    quotas = np.floor(shares + 1e-9).astype(np.int64)
    order = np.argsort(quotas - shares, kind="stable")
    while (short := count - quotas.sum()) > 0 and len(roomy := order[(quotas < members - 1)[order]]):
        quotas[roomy[:short]] += 1
    # RandomState instead of default_rng: NumPy guarantees that its stream never changes, and splits must not either.
    random = np.random.RandomState(0)
    chosen = [
        random.permutation(np.flatnonzero(labels == name))[:quota] for name, quota in zip(classes, quotas, strict=True)
    ]
    taken = np.sort(np.concatenate(chosen)).astype(np.int64)
    return np.setdiff1d(np.arange(len(labels)), taken), taken
