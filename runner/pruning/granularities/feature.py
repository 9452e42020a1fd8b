"""Features at the places that a model declares: the filters that produce them and the weights that read them."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from runner.models.layers import FeaturePlace, feature_places, prunable_layers
from runner.pruning.granularities.base import Members, Rows, filter_matrix


class FeatureMembers(Members):
    """Features, ranked separately at each place.

    Scores are tensors of shape (features,) under the consumer's name. Without scores, features are ranked by the L2
    norm of the filter that produces them.

    Args:
        only: names of the consumers of the places whose features are members; None means all declared places.
    """

    def __init__(self, model: nn.Module, only: Collection[str] | None = None) -> None:
        declared = feature_places(model)
        if not declared:
            raise ValueError(f"{type(model).__name__} declares no feature places")
        self.places: dict[str, FeaturePlace] = {
            place.consumer: place for place in declared if only is None or place.consumer in only
        }
        ends = sorted({name for place in self.places.values() for name in (place.consumer, place.producer)})
        super().__init__("feature", {**prunable_layers(model), **{name: model.get_submodule(name) for name in ends}})

    def magnitude(self) -> Rows:
        return self.rows({})

    def rows(self, scores: Mapping[str, Tensor]) -> Rows:
        filters = self.filters()
        # A variant may have ordered only some places.
        return {
            name: (scores[name] if name in scores else filter_matrix(filters[place.producer]).norm(dim=1))[None]
            for name, place in self.places.items()
        }

    def gather(self, tensors: Mapping[str, Tensor]) -> Rows:
        return {name: tensors[place.producer].contiguous().flatten(1)[None] for name, place in self.places.items()}

    def masks(self, removed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        masks = {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in self.weights.items()}
        filters = self.turned(masks)  # views of the masks
        for name, place in self.places.items():
            filters[name][:, removed[name][0]] = True
            filters[place.producer][removed[name][0]] = True
        return masks

    def sparsity(self) -> float:
        filters = self.filters()
        alive = [filters[name].transpose(0, 1).flatten(1).any(dim=1) for name in self.places]
        return 1 - sum(int(a.sum()) for a in alive) / sum(len(a) for a in alive)

    def entries(self) -> dict[str, int]:
        filters = self.filters()
        return {name: filters[place.producer][0].numel() for name, place in self.places.items()}


class Feature:
    """Features at the places of a model; see `FeatureMembers`."""

    def __init__(self, only: Collection[str] | None = None) -> None:
        self.only = only

    def members(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> FeatureMembers:
        """Return the model's features.

        Raises:
            ValueError: the model declares no places, or layers are named.
        """
        if layers is not None:
            raise ValueError(
                "layers apply to weights and units; features are cut at all places that the model declares"
            )
        return FeatureMembers(model, self.only)
