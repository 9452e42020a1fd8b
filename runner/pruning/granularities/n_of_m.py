"""n:m sparsity, which keeps n of every m weights, as used by sparse tensor cores (Mishra et al., 2021)."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from runner.models.layers import filters_first, parameter_of, prunable_layers
from runner.parameters import whole
from runner.pruning.granularities.base import Rows
from runner.pruning.granularities.weight import WeightMembers


class GroupMembers(WeightMembers):
    """Individual weights, ranked within groups of m input channels at one kernel position of a filter.

    Scores have shape (filters, entries).
    """

    def __init__(self, layers: Mapping[str, nn.Module], m: int) -> None:
        super().__init__("n_of_m", layers)
        self.m = m

    def rows(self, scores: Mapping[str, Tensor]) -> Rows:
        found = {}
        for name, weight in self.filters().items():
            channels_last = scores[name].view(len(weight), weight.shape[1], -1).transpose(1, 2)
            found[name] = channels_last.reshape(-1, self.m)
        return found

    def masks(self, removed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        masks = {}
        for name, weight in self.filters().items():
            channels_last = removed[name].view(len(weight), -1, weight.shape[1])
            masks[name] = channels_last.transpose(1, 2).reshape(weight.shape)
        return self.turned(masks)


class NofM:
    """Groups of m weights. A sparsity s removes floor(s m) weights per group; with m = 4, 0.5 is 2:4 and 0.75 is 1:4.

    Args:
        m: input channels per group, at least 2. Layers whose number of input channels is not a multiple of m are
            neither pruned nor counted.
    """

    scopes = ("layer",)  # every group keeps the same number of weights, so there is nothing else to compare

    def __init__(self, m: int = 4) -> None:
        self.m = whole("m", m, low=2)

    def members(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> GroupMembers:
        fitting = {n: x for n, x in prunable_layers(model, layers, example).items() if _inputs(x) % self.m == 0}
        if not fitting:
            raise ValueError(f"no prunable layer has a multiple of m={self.m} input channels")
        return GroupMembers(fitting, self.m)


def _inputs(layer: nn.Module) -> int:
    module, parameter = parameter_of(layer)
    return int(filters_first(layer, getattr(module, parameter)).shape[1])
