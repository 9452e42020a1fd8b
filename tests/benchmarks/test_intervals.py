import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.benchmarks.intervals import FEWEST, median_interval, spread


@pytest.mark.parametrize(("n", "k"), [(6, 1), (8, 1), (9, 2), (20, 6), (30, 10), (50, 18), (100, 40)])
def test_the_tables_of_order_statistics(n, k):
    # Conover, Practical Nonparametric Statistics: the ranks of the 95 % interval of a median.
    values = list(range(1, n + 1))
    assert median_interval(values[::-1]) == (k, n + 1 - k)


def test_it_holds_the_median_in_95_percent_of_all_samples():
    # All combinations of 9 values below or above a true median of 0.
    held = [low <= 0 <= high for low, high in map(median_interval, itertools.product((-1, 1), repeat=9))]
    assert sum(held) / len(held) >= 0.95


def test_too_few_values_have_no_interval():
    with pytest.raises(ValueError, match="5 values"):
        median_interval([1.0] * (FEWEST - 1))


@given(st.lists(st.floats(0.1, 10), min_size=FEWEST, max_size=60))
def test_the_interval_is_around_the_sample_s_median(values):
    low, high = median_interval(values)
    assert min(values) <= low <= statistics.median(values) <= high <= max(values)


def test_spread_is_the_middle_half_and_ignores_an_outlier():
    assert spread([8, 9, 10, 11, 12]) == pytest.approx(0.2)
    assert spread([8, 9, 10, 11, 1200]) == pytest.approx(0.2)
