"""The order in which the members of a network are removed."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from runner.densities import SCOPES, layer_fractions
from runner.parameters import one_of
from runner.pruning.granularities.base import Members, Rows
from runner.ranking import count, ranks


class Ranking:
    """The order in which all members of all layers are removed, computed once for a whole sweep.

    Args:
        scores: mapping from layer name to scores of shape (rows, members per row). The lowest are removed first; ties
            are broken by layer and index.
        scope: "layer" removes the same fraction of every row, i.e. of every filter for weights and of every layer for
            units. "uniform" removes the same fraction of every layer and compares all members of a layer. "erk" is like
            "uniform", but the fraction of each layer is given by `erk_densities`. "global" removes a fraction of all
            members of all layers.
        entries: mapping from layer name to weights per member, for members of several weights with global scope.
            Members are then compared by score / √entries, so that large ones are not kept only because of their size.
        weights: mapping from layer name to the shape of its weight, with filters in dim 0; needed for "erk".
    """

    def __init__(
        self,
        scores: Rows,
        scope: str = "layer",
        entries: Mapping[str, int] | None = None,
        weights: Mapping[str, torch.Size] | None = None,
    ) -> None:
        self.shapes = {name: matrix.shape for name, matrix in scores.items()}
        self.scope = one_of("scope", scope, SCOPES)
        self.weights = {} if weights is None else weights
        if scope == "global":
            if entries is not None:
                scores = {name: matrix / math.sqrt(entries[name]) for name, matrix in scores.items()}
            joined = torch.cat([matrix.flatten() for matrix in scores.values()])[None]
            parts = ranks(joined)[0].split([shape.numel() for shape in self.shapes.values()])
            self.ranks = {name: part.view(self.shapes[name]) for name, part in zip(scores, parts, strict=True)}
            self.total = joined.shape[1]
        elif scope in ("uniform", "erk"):
            whole = {name: ranks(matrix.reshape(1, -1)) for name, matrix in scores.items()}
            self.ranks = {name: rank.view(self.shapes[name]) for name, rank in whole.items()}
        else:
            self.ranks = {name: ranks(matrix) for name, matrix in scores.items()}

    def pruned(self, sparsity: float) -> dict[str, Tensor]:
        """Return a boolean mask for each layer, True for removed members.

        Of n members that are compared with one another, floor(sparsity * n + 1e-9) are removed; with "erk", each layer
        has its own sparsity.
        """
        if self.scope == "global":
            k = count(sparsity, self.total)
            return {name: rank < k for name, rank in self.ranks.items()}
        if self.scope in ("uniform", "erk"):
            shapes = {name: self.weights[name] for name in self.ranks} if self.scope == "erk" else self.shapes
            fractions = layer_fractions(self.scope, shapes, sparsity)
            return {name: rank < count(fractions[name], rank.numel()) for name, rank in self.ranks.items()}
        return {name: rank < count(sparsity, rank.shape[1]) for name, rank in self.ranks.items()}


def rank(members: Members, scores: Rows, scope: str = "layer", comparable: bool = False) -> Ranking:
    """Rank a model's members by their scores.

    Among members without a positive score, those whose weights are all zero come first: a criterion may also give 0 to
    weights whose inputs are zero, and pruning a pruned network again must not remove these instead.

    Args:
        comparable: whether scores of different layers are directly comparable; see `Criterion`.
    """
    zero = {name: magnitude == 0 for name, magnitude in members.magnitude().items()}
    scores = {name: score.masked_fill(zero[name] & (score <= 0), -math.inf) for name, score in scores.items()}
    entries = members.entries() if scope == "global" and not comparable else None
    return Ranking(scores, scope, entries, {name: weight.shape for name, weight in members.filters().items()})
