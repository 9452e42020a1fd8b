"""Scores in, masks out: which weights or filters a sparsity removes. Nothing here changes a model.

Shapes: scores and masks for weights are (filters, entries), for units (1, filters), both in contiguous order, so that a
mask does not depend on a weight's memory format.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from runner.ranking import count, ranks

GRANULARITIES = ("weight", "unit")
SCOPES = ("layer", "global")

Matrices = dict[str, Tensor]


def magnitude(weights: Mapping[str, Tensor], granularity: str) -> Matrices:
    """|W_io| for weights (paper, eq. 2), ‖w_o‖₂ for units (eq. 1)."""
    flat = {name: weight.detach().float().contiguous().flatten(1) for name, weight in weights.items()}
    if granularity == "weight":
        return {name: matrix.abs() for name, matrix in flat.items()}
    return {name: matrix.norm(dim=1)[None] for name, matrix in flat.items()}


def matrices(scores: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Matrices:
    """A variant's own scores, (filters, entries) or (filters,), as matrices for the layers of `weights`."""
    return {name: scores[name] if scores[name].dim() == 2 else scores[name][None] for name in weights}


def random_scores(weights: Mapping[str, Tensor], granularity: str, seed: int) -> Matrices:
    """Uniform scores, the control: what any pruning at that sparsity costs."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: (len(w), w[0].numel()) if granularity == "weight" else (1, len(w)) for name, w in weights.items()}
    return {name: torch.rand(s, generator=generator).to(weights[name].device) for name, s in shapes.items()}


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
    """A layer's mask in a form that broadcasts over its weight: (1, filters) becomes (filters, 1, …)."""
    if pruned.shape[0] == 1 and pruned.shape[1] == len(weight) and pruned.numel() != weight.numel():
        return pruned.view(-1, *[1] * (weight.dim() - 1))
    return pruned.view(weight.shape)
