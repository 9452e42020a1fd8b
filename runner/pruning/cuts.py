"""What a granularity takes out of a model: the weights or filters of its prunable layers, or features at its places."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from runner.models.layers import (
    FeaturePlace,
    feature_places,
    filters_first,
    matrices_in,
    parameter_of,
    prunable_layers,
)
from runner.pruning.masks import Matrices, magnitude, matrices, random_scores, weight_mask


class Cut(Protocol):
    """How scores become zeros in a model's weights."""

    weights: dict[str, Tensor]  # by module name: all that change, or are counted

    def magnitude(self) -> Matrices:
        """What is ranked by where a variant has no scores of its own."""

    def matrices(self, scores: Mapping[str, Tensor]) -> Matrices:
        """Scores as the rows that are ranked, each for itself."""

    def entries(self) -> dict[str, int] | None:
        """How many weights a member is, for comparing members of different layers; None: one."""

    def masks(self, pruned: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is pruned, as masks that broadcast over the weights."""

    def sparsity(self) -> float:
        """The fraction of members that really is zero now."""


class LayerCut:
    """Weights, or filters, of layers."""

    def __init__(self, layers: Mapping[str, nn.Module], granularity: str) -> None:
        self.granularity = granularity
        self.layers = layers
        self.weights = _weights(layers)
        self.stacked = {name: matrices_in(layer) for name, layer in layers.items()}

    def magnitude(self) -> Matrices:
        return self.matrices(magnitude(_filters(self.layers, self.weights), self.granularity))

    def matrices(self, scores: Mapping[str, Tensor]) -> Matrices:
        return matrices({name: scores[name] for name in self.weights}, self.stacked)

    def entries(self) -> dict[str, int] | None:
        filters = _filters(self.layers, self.weights)
        return {name: weight[0].numel() for name, weight in filters.items()} if self.granularity == "unit" else None

    def masks(self, pruned: Mapping[str, Tensor]) -> dict[str, Tensor]:
        filters = _filters(self.layers, self.weights)
        return _filters(self.layers, {name: weight_mask(pruned[name], weight) for name, weight in filters.items()})

    def sparsity(self) -> float:
        if self.granularity == "weight":
            nonzero, total = nonzero_weights(self.weights)
            return 1 - nonzero / total
        alive = [weight.flatten(1).any(dim=1) for weight in _filters(self.layers, self.weights).values()]
        return 1 - sum(int(a.sum()) for a in alive) / sum(len(a) for a in alive)


class FeatureCut:
    """Features: the filters that make them and the columns that read them go together.

    Scores are by the consumer's name, one a feature; where there are none, the L2 norm of the filter that makes it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.places: dict[str, FeaturePlace] = {place.consumer: place for place in feature_places(model)}
        if not self.places:
            raise ValueError(f"{type(model).__name__} declares no feature places")
        ends = sorted({name for place in self.places.values() for name in (place.consumer, place.producer)})
        self.layers = {**prunable_layers(model), **{name: model.get_submodule(name) for name in ends}}
        self.weights = _weights(self.layers)

    def magnitude(self) -> Matrices:
        return self.matrices({})

    def matrices(self, scores: Mapping[str, Tensor]) -> Matrices:
        filters = _filters(self.layers, self.weights)
        producers = {name: filters[place.producer] for name, place in self.places.items()}
        # A variant may have ordered some places only.
        own = {name: scores[name] for name in self.places if name in scores}
        return matrices({**magnitude(producers, "unit"), **own})

    def entries(self) -> dict[str, int] | None:
        filters = _filters(self.layers, self.weights)
        return {name: filters[place.producer][0].numel() for name, place in self.places.items()}

    def masks(self, pruned: Mapping[str, Tensor]) -> dict[str, Tensor]:
        masks = {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in self.weights.items()}
        filters = _filters(self.layers, masks)  # views of the masks
        for name, place in self.places.items():
            filters[name][:, pruned[name][0]] = True
            filters[place.producer][pruned[name][0]] = True
        return masks

    def sparsity(self) -> float:
        filters = _filters(self.layers, self.weights)
        alive = [filters[name].transpose(0, 1).flatten(1).any(dim=1) for name in self.places]
        return 1 - sum(int(a.sum()) for a in alive) / sum(len(a) for a in alive)


def cut(model: nn.Module, granularity: str, layers: Iterable[str] | None = None, example: Any = None) -> Cut:
    """What "weight" or "unit" takes out of the prunable layers, or of the named ones, and "feature" at the places.

    Args:
        layers, example: see `prunable_layers`.

    Raises:
        ValueError: "feature", and the model declares no places or layers are named; a weight can't be written, as a
            dropout variant is attached.
    """
    if granularity != "feature":
        return LayerCut(prunable_layers(model, layers, example), granularity)
    if layers is not None:
        raise ValueError("layers are for weights and units; features are cut at all places that the model declares")
    return FeatureCut(model)


def ranked(members: Cut, scores: str, own: Mapping[str, Tensor] | None, seed: int) -> Matrices:
    """What is ranked: the variant's "own" scores, or magnitude where it has none; "magnitude"; or "random" numbers."""
    if scores == "random":
        return random_scores(members.magnitude(), seed)
    return members.matrices(own) if scores == "own" and own is not None else members.magnitude()


def nonzero_weights(weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """How many weights are not zero, and how many there are."""
    nonzero = sum(int(weight.count_nonzero()) for weight in weights.values())
    return nonzero, sum(weight.numel() for weight in weights.values())


def _weights(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    weights = {}
    for layer, (module, name) in {key: parameter_of(value) for key, value in modules.items()}.items():
        if name not in module._parameters:  # what is written into it would be lost
            raise ValueError(
                f"the weight of layer {layer!r} is computed from other parameters; if a dropout variant is still "
                "attached, detach() it first"
            )
        weights[layer] = getattr(module, name)
    return weights


def _filters(layers: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the shapes of the layers' weights as views that have the filters in dim 0, or back."""
    return {name: filters_first(layers[name], tensor) for name, tensor in tensors.items()}
