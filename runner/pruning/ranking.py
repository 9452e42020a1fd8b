"""All members of a network in the order in which they go."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from runner.pruning.granularities.base import Rows
from runner.ranking import count, ranks

SCOPES = ("layer", "global")


class Ranking:
    """All members of all layers in the order in which they go, found once for a whole sweep.

    Args:
        scores: layer name → scores; the lowest go first, ties by layer and index.
        scope: "layer": the same fraction in every row, that is in every filter for weights and in every layer for
            units. "global": the fraction of all members together; filters are compared by score / √(entries a filter),
            so that wide filters are not safe by their size alone.
        entries: layer name → entries a filter, needed for units of global scope.
    """

    def __init__(self, scores: Rows, scope: str = "layer", entries: Mapping[str, int] | None = None) -> None:
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
