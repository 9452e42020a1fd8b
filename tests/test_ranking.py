import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runner.ranking import count, like_weight, lowest, ranks, rows

# Only a few different values, so that ties are common.
matrices = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=st.integers(0, 4).map(float)
)


@pytest.mark.parametrize(
    ("fraction", "n", "expected"),
    [(0.29, 100, 29), (0.0, 7, 0), (1.0, 7, 7), (0.75, 10, 7), (0.99, 144, 142), (0.95 * 1 + 0.05 * 1, 3, 3)],
)
def test_count_undoes_binary_rounding_and_rounds_down(fraction, n, expected):
    assert count(fraction, n) == expected


@given(st.integers(1, 5000), st.integers(0, 5000))
def test_count_of_an_exact_ratio_is_its_numerator(n, k):
    k = min(k, n)
    assert count(k / n, n) == k


@given(matrices, st.floats(0, 1))
def test_lowest_takes_exactly_k_a_row_and_only_the_smallest_by_index(scores, fraction):
    k = count(fraction, scores.shape[1])
    mask = lowest(torch.from_numpy(scores), k).numpy()
    for row, dropped in zip(scores, mask, strict=True):
        slow = sorted(range(len(row)), key=lambda i: (row[i], i))[:k]
        assert sorted(np.flatnonzero(dropped)) == sorted(slow)


@given(matrices, st.floats(0, 1))
def test_lowest_takes_the_same_where_it_does_not_ask_for_ties(scores, fraction):
    tensor, k = torch.from_numpy(scores), count(fraction, scores.shape[1])
    with mock.patch("torch.compiler.is_compiling", return_value=True):
        assert torch.equal(lowest(tensor, k), ranks(tensor) < k)


@given(matrices)
def test_ranks_below_k_is_lowest_for_every_k(scores):
    tensor = torch.from_numpy(scores)
    for k in range(scores.shape[1] + 1):
        assert torch.equal(ranks(tensor) < k, lowest(tensor, k))


@given(matrices, st.floats(0, 1), st.floats(0, 1))
def test_masks_are_nested(scores, a, b):
    small, large = sorted(count(fraction, scores.shape[1]) for fraction in (a, b))
    tensor = torch.from_numpy(scores)
    assert not (lowest(tensor, small) & ~lowest(tensor, large)).any()


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (4, 3, 1, 1), (4, 1, 3, 3), (4, 6), (4, 3, 5)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_rows_and_like_weight_are_inverse_views(shape, channels_last):
    weight = torch.arange(math.prod(shape), dtype=torch.float32).view(shape)
    if channels_last and len(shape) == 4:
        weight = weight.to(memory_format=torch.channels_last)
    matrix = rows(weight)
    assert matrix.shape == (4, weight[0].numel())
    assert matrix.data_ptr() == weight.data_ptr()
    assert torch.equal(like_weight(matrix, weight), weight)
    assert [set(row.tolist()) for row in matrix] == [set(filter_.flatten().tolist()) for filter_ in weight]
    assert like_weight(torch.ones(4, 1), weight).shape == (4, *[1] * (len(shape) - 1))
