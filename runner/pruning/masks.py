"""Scores in, masks out: which weights or filters a sparsity removes. Nothing here changes a model.

Shapes: scores and masks for weights are (filters, entries), for units (matrices, filters a matrix), a matrix being a
layer or one head's part of an attention projection, for features (1, features); all in contiguous order, so that a
mask does not depend on a weight's memory format.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from runner.ranking import count, ranks

GRANULARITIES = ("weight", "unit", "feature")
SCOPES = ("layer", "global")

Matrices = dict[str, Tensor]


def magnitude(weights: Mapping[str, Tensor], granularity: str) -> dict[str, Tensor]:
    """|W_io| for weights (paper, eq. 2), ‖w_o‖₂ for units (eq. 1): (filters, entries) or (filters,)."""
    flat = {name: weight.detach().float().contiguous().flatten(1) for name, weight in weights.items()}
    if granularity == "weight":
        return {name: matrix.abs() for name, matrix in flat.items()}
    return {name: matrix.norm(dim=1) for name, matrix in flat.items()}


def matrices(scores: Mapping[str, Tensor], stacked: Mapping[str, int] | None = None) -> Matrices:
    """Scores of weights, (filters, entries), as they are; of units or features, (n,), as (matrices, n / matrices).

    Args:
        stacked: layer name → how many matrices its weight is, see `matrices_in`; one where it is not named.
    """
    stacked = stacked or {}
    return {name: s if s.dim() == 2 else s.view(stacked.get(name, 1), -1) for name, s in scores.items()}


def random_scores(like: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Uniform scores, the control: what any pruning at that sparsity costs."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(s.shape, generator=generator).to(s.device) for name, s in like.items()}


class Ranking:
    """All members of all layers in the order in which they go, found once for a whole sweep.

    Args:
        scores: layer name → scores; the lowest go first, ties by layer and index.
        scope: "layer": the same fraction in every row, that is in every filter for weights and in every layer for
            units. "global": the fraction of all members together; filters are compared by score / √(entries a filter),
            so that wide filters are not safe by their size alone.
        entries: layer name → entries a filter, needed for units of global scope.
    """

    def __init__(self, scores: Matrices, scope: str = "layer", entries: Mapping[str, int] | None = None) -> None:
        self.shapes = {name: matrix.shape for name, matrix in scores.items()}
        self.scope = scope
        if scope == "global":
            if entries is not None:
                scores = {name: matrix / math.sqrt(entries[name]) for name, matrix in scores.items()}
            joined = torch.cat([matrix.flatten() for matrix in scores.values()])[None]
            parts = ranks(joined)[0].split([shape.numel() for shape in self.shapes.values()])
            self.ranks = {name: part.view(self.shapes[name]) for name, part in zip(scores, parts, strict=True)}
            self.total = joined.shape[1]
        else:
            self.ranks = {name: ranks(matrix) for name, matrix in scores.items()}

    def pruned(self, sparsity: float) -> dict[str, Tensor]:
        """Layer name → boolean mask, True for what is removed; floor(sparsity * n + 1e-9) members of every row (or of
        all together) are."""
        if self.scope == "global":
            k = count(sparsity, self.total)
            return {name: rank < k for name, rank in self.ranks.items()}
        return {name: rank < count(sparsity, rank.shape[1]) for name, rank in self.ranks.items()}


def weight_mask(pruned: Tensor, weight: Tensor) -> Tensor:
    """A layer's mask in a form that broadcasts over its weight: one of units becomes (filters, 1, …)."""
    if pruned.numel() == len(weight):
        return pruned.view(-1, *[1] * (weight.dim() - 1))
    return pruned.view(weight.shape)
