"""The elbow of a curve over the number of features, and the fewest features that are about as good as all of them."""

import math

import pytest

from runner.analyses.scree.choice import elbow, fewest


def test_the_elbow_is_the_corner_of_two_straight_lines():
    # Points are evenly spaced over log2 k: the loss falls by 40 per doubling up to k = 4, then by 1.
    ks = [1, 2, 4, 8, 16, 32]
    losses = [100, 60, 20, 19, 18, 17]
    assert elbow(ks, losses) == 4
    assert elbow(ks, [-loss for loss in losses], higher_is_better=True) == 4
    assert elbow(ks, [1000 + 7 * loss for loss in losses]) == 4, "whatever the unit"


def test_a_doubling_counts_alike_wherever_it_is():
    """Over k instead of log2 k, the point at 16 would be farther from the chord."""
    assert elbow([1, 4, 16, 1024], [1.0, 0.35, 0.2, 0.0]) == 4
    assert elbow([10, 40, 160, 10240], [1.0, 0.35, 0.2, 0.0]) == 40


def test_a_long_tail_of_idle_features_hardly_moves_it():
    ks, losses = [1, 2, 4, 8], [1.0, 0.5, 0.1, 0.09]
    assert elbow(ks, losses) == elbow([*ks, 16, 32], [*losses, 0.09, 0.089]) == 4


@pytest.mark.parametrize(
    ("ks", "values"),
    [
        ([1, 2], [2.0, 1.0]),
        ([1, 2, 4], [3.0, 2.0, 1.0]),  # straight
        ([1, 2, 4], [3.0, 2.9, 1.0]),  # bent to the other side
        ([1, 2, 4], [1.0, 1.0, 1.0]),
        ([1, 2, 4], [1.0, 0.5, 1.0]),  # no usable chord
        ([1, 2, 4], [math.nan, 0.5, 0.1]),
        ([1, 2, 4], [math.inf, 0.5, 0.1]),
    ],
)
def test_there_may_be_no_elbow(ks, values):
    assert elbow(ks, values) is None


def test_a_curve_that_rises_where_it_should_fall_has_its_elbow_where_it_was_best():
    assert elbow([1, 2, 4], [1.0, 0.5, 2.0]) == 2


def test_rounding_is_no_elbow():
    ks = [2**i for i in range(11)]
    assert elbow(ks, [0.1 * (10 - i) for i in range(11)]) is None


@pytest.mark.parametrize(("tolerance", "k"), [(0.0, 16), (0.01, 8), (0.1, 4), (0.099, 8), (1.0, 2), (10.0, 1)])
def test_the_tolerance_of_losses_is_a_fraction_of_the_last(tolerance, k):
    assert fewest([1, 2, 4, 8, 16], [5.0, 0.9, 0.55, 0.504, 0.5], tolerance, False, absolute=False) == k


@pytest.mark.parametrize(("tolerance", "k"), [(0.0, 4), (0.01, 4), (0.021, 2), (0.5, 1)])
def test_that_of_accuracies_is_a_difference(tolerance, k):
    assert fewest([1, 2, 4, 8], [0.5, 0.88, 0.91, 0.9], tolerance, True, absolute=True) == k


def test_a_tolerance_gives_way_in_the_right_direction_below_zero():
    assert fewest([1, 2, 3], [-8.0, -9.5, -10.0], 0.1, False, absolute=False) == 2
    assert fewest([1, 2, 3], [-12.0, -10.5, -10.0], 0.1, True, absolute=False) == 2


def test_fewer_may_be_better_than_all():
    assert fewest([1, 2, 3], [3.0, 0.5, 1.0], 0.0, False, absolute=False) == 2


def test_nothing_is_within_a_tolerance_of_no_number():
    assert fewest([1, 2], [1.0, math.nan], 0.1, False, absolute=False) is None
