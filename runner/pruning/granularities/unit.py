"""Whole filters (the paper's units), ranked separately in each layer (paper, eq. 1)."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from runner.models.layers import matrices_in, prunable_layers
from runner.pruning.granularities.base import Members, Rows, filter_matrix


class UnitMembers(Members):
    """Filters, ranked within each of a layer's matrices (see `matrices_in`), with scores of shape (filters,)."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__("unit", layers)
        self.matrices = {name: matrices_in(layer) for name, layer in layers.items()}

    def magnitude(self) -> Rows:
        return self.rows({name: filter_matrix(weight).norm(dim=1) for name, weight in self.filters().items()})

    def rows(self, scores: Mapping[str, Tensor]) -> Rows:
        return {name: scores[name].view(self.matrices[name], -1) for name in self.weights}

    def gather(self, tensors: Mapping[str, Tensor]) -> Rows:
        return {
            name: tensors[name].contiguous().flatten(1).unflatten(0, (self.matrices[name], -1)) for name in self.weights
        }

    def masks(self, removed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.turned({n: removed[n].view(-1, *[1] * (weight.dim() - 1)) for n, weight in self.filters().items()})

    def sparsity(self) -> float:
        alive = [weight.flatten(1).any(dim=1) for weight in self.filters().values()]
        return 1 - sum(int(a.sum()) for a in alive) / sum(len(a) for a in alive)

    def entries(self) -> dict[str, int]:
        return {name: weight[0].numel() for name, weight in self.filters().items()}


class Unit:
    """Filters of the prunable layers."""

    def members(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> Members:
        return UnitMembers(prunable_layers(model, layers, example))
