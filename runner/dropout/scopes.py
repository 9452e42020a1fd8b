"""Select the targeted entries of all layers, for scopes larger than a filter."""

import torch
from torch import Tensor, nn

from runner.densities import layer_fractions
from runner.dropout.base import UntilChanged, raw_parameter
from runner.models.layers import filters_first
from runner.ranking import count, lowest, rows, sortable


class Joint:
    """Find the entries of smallest magnitude within each layer, or within all layers together.

    They are found for all layers at once and cached until a weight or γ changes, so that forward passes through a part
    of a network (e.g. decoding steps) do not search again.

    Args:
        scope: "uniform" targets floor(γ n) of a layer's n entries; "erk" targets floor((1 − density) n), with densities
            from `erk_densities` for 1 − γ; "global" targets floor(γ N) of all N entries.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.layers: dict[str, nn.Module] = {}
        self.kept = UntilChanged()

    def clear(self) -> None:
        """Remove all layers."""
        self.layers, self.kept = {}, UntilChanged()

    @torch.compiler.disable
    def targeted(self, name: str, gamma: float) -> Tensor | None:
        """Return a mask (filters, entries) of a layer's targeted entries, in the order of `rows`, or None if γ is 0."""
        weights = (raw_parameter(layer) for layer in self.layers.values())
        return self.kept.get(gamma, weights, lambda: self._found(gamma)).get(name)

    def _found(self, gamma: float) -> dict[str, Tensor]:
        if gamma == 0:
            return {}
        weights = {name: filters_first(layer, raw_parameter(layer).detach()) for name, layer in self.layers.items()}
        scores = {name: rows(weight).abs() for name, weight in weights.items()}
        if self.scope == "global":
            joined = torch.cat([sortable(one).flatten() for one in scores.values()])[None]
            parts = lowest(joined, count(gamma, joined.shape[1]))[0].split([one.numel() for one in scores.values()])
            return {layer: part.view(scores[layer].shape) for layer, part in zip(scores, parts, strict=True)}
        fractions = layer_fractions(self.scope, {layer: weight.shape for layer, weight in weights.items()}, gamma)
        return {
            layer: lowest(sortable(one).reshape(1, -1), count(fractions[layer], one.numel())).view(one.shape)
            for layer, one in scores.items()
        }
