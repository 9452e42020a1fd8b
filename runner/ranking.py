"""Which members of a weight go first: the one rule shared by training, ramping and the sweep.

A weight is seen as a matrix of *rows*: one row a filter (PyTorch's dim 0), one column an entry of it.
"""

import math

import torch
from torch import Tensor


def count(fraction: float, n: int) -> int:
    """How many of n members a fraction in [0, 1] means: floor(fraction * n + 1e-9).

    The small constant undoes binary rounding: 0.29 * 100 is 28.999…, and means 29.
    """
    return math.floor(fraction * n + 1e-9)


def rows(weight: Tensor) -> Tensor:
    """The weight as (filters, entries), without a copy where its memory allows.

    A channels_last weight is read in its own order: flatten(1) would copy it. The order of entries in a row is then
    another than in a contiguous weight, so only use it together with `like_weight`.
    """
    if weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        return weight.permute(0, 2, 3, 1).flatten(1)
    return weight.flatten(1)


def like_weight(matrix: Tensor, weight: Tensor) -> Tensor:
    """Undo `rows`: a (filters, entries) or (filters, 1) matrix in the weight's own shape and memory order."""
    if matrix.shape[1] == 1:
        return matrix.view(-1, *[1] * (weight.dim() - 1))
    if weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        n, c, h, w = weight.shape
        return matrix.view(n, h, w, c).permute(0, 3, 1, 2)
    return matrix.view(weight.shape)


def sortable(scores: Tensor) -> Tensor:
    """Scores that are not negative, in the type that is selected from fastest.

    Such floats are ordered as their bits are, and a selection of whole numbers is a quarter faster.
    """
    return scores.view(torch.int32) if scores.dtype == torch.float32 else scores


def lowest(scores: Tensor, k: int) -> Tensor:
    """Boolean mask of the k lowest scores of every row, exactly k a row; among equal scores the first go first.

    Args:
        scores: (rows, n), finite.
        k: 0 <= k <= n.
    """
    if k <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if k >= scores.shape[1]:
        return torch.ones_like(scores, dtype=torch.bool)
    # kthvalue is half the price of a sort, and this runs in every layer at every step.
    threshold = scores.kthvalue(k, dim=1, keepdim=True).values
    # Asking whether there are ties is cheaper than breaking them, but a GPU would be waited for, and a compiled graph
    # ends at a branch on values.
    if scores.device.type == "cpu" and not torch.compiler.is_compiling():
        mask = scores <= threshold
        if int(torch.count_nonzero(mask)) == k * scores.shape[0]:
            return mask
    return _ties_by_index(scores, threshold, k)


def _ties_by_index(scores: Tensor, threshold: Tensor, k: int) -> Tensor:
    """What is below the threshold (rows, 1), and as many of what equals it as makes k a row, the first ones."""
    below = scores < threshold
    tied = scores == threshold
    missing = k - below.sum(1, keepdim=True, dtype=torch.int32)
    return below | (tied & (tied.cumsum(1, dtype=torch.int32) <= missing))


def ranks(scores: Tensor) -> Tensor:
    """Each member's place in its row, (rows, n) int64: 0 is the lowest score; ties by index, as in `lowest`.

    `ranks(scores) < k` is `lowest(scores, k)` for every k, so one sort serves a whole sweep.
    """
    order = scores.argsort(dim=1, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)
