"""The order in which the members of a weight are pruned, shared by training, ramping and the sweep.

A weight is viewed as a matrix with one row per filter (PyTorch's dim 0) and one column per entry of a filter.
"""

import math

import torch
from torch import Tensor


def count(fraction: float, n: int) -> int:
    """Return the number of members, out of n, that a fraction in [0, 1] amounts to: floor(fraction * n + 1e-9).

    The small constant corrects binary rounding: 0.29 * 100 evaluates to 28.999… but means 29.
    """
    return math.floor(fraction * n + 1e-9)


def rows(weight: Tensor) -> Tensor:
    """View the weight as (filters, entries), without a copy if the memory layout permits.

    A channels_last weight is read in its own memory order, because flatten(1) would copy it. The entries of a row then
    have a different order than in a contiguous weight, so use this function only together with `like_weight`.
    """
    if weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        return weight.permute(0, 2, 3, 1).flatten(1)
    return weight.flatten(1)


def like_weight(matrix: Tensor, weight: Tensor) -> Tensor:
    """Undo `rows`: view a (filters, entries) or (filters, 1) matrix in the weight's own shape and memory order."""
    if matrix.shape[1] == 1:
        return matrix.view(-1, *[1] * (weight.dim() - 1))
    if weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        n, c, h, w = weight.shape
        return matrix.view(n, h, w, c).permute(0, 3, 1, 2)
    return matrix.view(weight.shape)


def sortable(scores: Tensor) -> Tensor:
    """View non-negative scores in the dtype that is fastest to select from.

    Non-negative floats have the same order as their bits read as integers, and selecting from integers is a quarter
    faster.
    """
    return scores.view(torch.int32) if scores.dtype == torch.float32 else scores


def lowest(scores: Tensor, k: int) -> Tensor:
    """Return a boolean mask of the k lowest scores of every row, exactly k per row; ties are broken by index.

    Args:
        scores: a tensor of shape (rows, n) with finite values.
        k: the number of scores per row, 0 <= k <= n.
    """
    if k <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if k >= scores.shape[1]:
        return torch.ones_like(scores, dtype=torch.bool)
    # kthvalue takes half the time of a sort, and this runs in every layer at every step.
    threshold = scores.kthvalue(k, dim=1, keepdim=True).values
    # Checking for ties is cheaper than breaking them, but on a GPU it would synchronize, and a compiled graph breaks at
    # a branch on values.
    if scores.device.type == "cpu" and not torch.compiler.is_compiling():
        mask = scores <= threshold
        if int(torch.count_nonzero(mask)) == k * scores.shape[0]:
            return mask
    return _ties_by_index(scores, threshold, k)


def _ties_by_index(scores: Tensor, threshold: Tensor, k: int) -> Tensor:
    """Return a mask of k scores per row: those below the threshold (rows, 1) and the first ones equal to it."""
    below = scores < threshold
    tied = scores == threshold
    missing = k - below.sum(1, keepdim=True, dtype=torch.int32)
    return below | (tied & (tied.cumsum(1, dtype=torch.int32) <= missing))


def ranks(scores: Tensor) -> Tensor:
    """Return each member's rank in its row as an int64 tensor of shape (rows, n).

    Rank 0 is the lowest score, and ties are broken by index. `ranks(scores) < k` is `lowest(scores, k)` for
    every k, so one sort serves a whole sweep.
    """
    order = scores.argsort(dim=1, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)
