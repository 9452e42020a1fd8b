"""Confidence intervals for medians from order statistics, because timings are skewed and have outliers."""

import math
import statistics
from collections.abc import Sequence

CONFIDENCE = 0.95
FEWEST = 6  # the smallest number of values for which such an interval exists: 1 - 2 / 2**6 is 97 %


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the narrowest symmetric pair of order statistics that bounds the median with at least 95 % confidence.

    The k-th smallest and the k-th largest of n values miss the median with probability 2 P(Binomial(n, 1/2) < k).

    Raises:
        ValueError: there are fewer than six values.
    """
    n = len(values)
    if n < FEWEST:
        raise ValueError(f"{n} values are too few for a {CONFIDENCE:.0%} interval; expected at least {FEWEST}")
    k, missed = 0, 2.0 / 2**n  # the probability for k + 1
    while missed <= 1 - CONFIDENCE:
        k += 1
        missed += 2 * math.comb(n, k) / 2**n
    ordered = sorted(values)
    return ordered[k - 1], ordered[n - k]


def spread(values: Sequence[float]) -> float:
    """Return the interquartile range divided by the median, a measure that is robust to a few outliers."""
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return (upper - lower) / middle
