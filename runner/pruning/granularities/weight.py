"""Individual weights, ranked separately in each filter (paper, eq. 2)."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from runner.models.layers import prunable_layers
from runner.pruning.granularities.base import Members, Rows, filter_matrix, nonzero_weights


class WeightMembers(Members):
    """The individual weights of layers, with scores of shape (filters, entries).

    Subclasses for n:m patterns override `rows` and `masks`.
    """

    structured = False

    def magnitude(self) -> Rows:
        return self.rows({name: filter_matrix(weight).abs() for name, weight in self.filters().items()})

    def rows(self, scores: Mapping[str, Tensor]) -> Rows:
        return {name: scores[name] for name in self.weights}

    def gather(self, tensors: Mapping[str, Tensor]) -> Rows:
        flat = {name: tensor.contiguous().flatten(1) for name, tensor in tensors.items()}
        return {name: part.unsqueeze(-1) for name, part in self.rows(flat).items()}

    def masks(self, removed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.turned({name: removed[name].view(weight.shape) for name, weight in self.filters().items()})

    def sparsity(self) -> float:
        nonzero, total = nonzero_weights(self.weights)
        return 1 - nonzero / total


class Weight:
    """Individual weights of the prunable layers."""

    def members(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> Members:
        return WeightMembers("weight", prunable_layers(model, layers, example))
