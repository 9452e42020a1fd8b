"""Medians and their intervals, from the order of the values alone: timings are skewed and have outliers."""

import math
import statistics
from collections.abc import Sequence

CONFIDENCE = 0.95
FEWEST = 6  # values for which an interval of that confidence exists: 1 - 2 / 2**6 is 97 %


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest symmetric pair of order statistics that holds the true median with at least 95 % probability.

    The k-th smallest and k-th largest of n values miss it with probability 2 P(Binomial(n, 1/2) < k).

    Raises:
        ValueError: there are fewer than six values.
    """
    n = len(values)
    if n < FEWEST:
        raise ValueError(f"{n} values have no {CONFIDENCE:.0%} interval; {FEWEST} have")
    k, missed = 0, 2.0 / 2**n  # of k + 1
    while missed <= 1 - CONFIDENCE:
        k += 1
        missed += 2 * math.comb(n, k) / 2**n
    ordered = sorted(values)
    return ordered[k - 1], ordered[n - k]


def spread(values: Sequence[float]) -> float:
    """The middle half's width over the median, which a few outliers don't change."""
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return (upper - lower) / middle
