"""Weight blocks that span several filters and input channels, as used by block-sparse kernels."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from runner.models.layers import filters_first, parameter_of, prunable_layers
from runner.parameters import whole
from runner.pruning.granularities.base import Members, Rows


class BlockMembers(Members):
    """Blocks of filters × input channels at one kernel position, ranked within each layer; scores are (blocks,)."""

    structured = False

    def __init__(self, layers: Mapping[str, nn.Module], filters: int, inputs: int) -> None:
        super().__init__("block", layers)
        self.size = (filters, inputs)

    def gather(self, tensors: Mapping[str, Tensor]) -> Rows:
        return {name: self._blocks(tensors[name]).flatten(0, 2).flatten(1)[None] for name in self.weights}

    def magnitude(self) -> Rows:
        return self.norms()

    def rows(self, scores: Mapping[str, Tensor]) -> Rows:
        return {name: scores[name].view(1, -1) for name in self.weights}

    def masks(self, removed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        masks = {}
        for name, weight in self.filters().items():
            mask = torch.zeros(weight.shape, dtype=torch.bool, device=weight.device)
            blocks = self._blocks(mask)  # a view
            blocks |= removed[name].view(blocks.shape[:3])[..., None, None]
            masks[name] = mask
        return self.turned(masks)

    def sparsity(self) -> float:
        alive = [part.ne(0).any(dim=-1) for part in self.gather(self.filters()).values()]
        return 1 - sum(int(a.sum()) for a in alive) / sum(a.numel() for a in alive)

    def entries(self) -> dict[str, int]:
        return dict.fromkeys(self.weights, self.size[0] * self.size[1])

    def _blocks(self, weight: Tensor) -> Tensor:
        """Return (filters / f, taps, inputs / i, f, i), a view of a contiguous weight."""
        f, i = self.size
        taps = weight.contiguous().flatten(2) if weight.dim() > 2 else weight.contiguous().unsqueeze(-1)
        return taps.unflatten(1, (-1, i)).unflatten(0, (-1, f)).permute(0, 4, 2, 1, 3)


class Block:
    """Blocks of the prunable layers. Layers that can't be divided into blocks are neither pruned nor counted.

    Args:
        filters, inputs: numbers of filters and input channels per block, at least 1.
    """

    def __init__(self, filters: int = 4, inputs: int = 4) -> None:
        self.filters, self.inputs = whole("filters", filters), whole("inputs", inputs)

    def members(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> BlockMembers:
        fitting = {name: x for name, x in prunable_layers(model, layers, example).items() if self._fills(x)}
        if not fitting:
            raise ValueError(f"no prunable layer can be divided into blocks of {self.filters} x {self.inputs}")
        return BlockMembers(fitting, self.filters, self.inputs)

    def _fills(self, layer: nn.Module) -> bool:
        module, parameter = parameter_of(layer)
        shape = filters_first(layer, getattr(module, parameter)).shape
        return shape[0] % self.filters == 0 and shape[1] % self.inputs == 0
