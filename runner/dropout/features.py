"""Variants for the features at a model's declared places, and ordinary feature dropout."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.dropout.base import Scores, Variant
from runner.errors import ParameterError
from runner.models.layers import FeaturePlace, feature_places, filters_first
from runner.parameters import fraction


class FeatureVariant(Variant):
    """A variant that changes the inputs of the modules at the model's feature places, without changing the model.

    Args:
        places: names of modules among the model's declared places; None means all of them.
    """

    granularities = ("feature",)

    def __init__(self, places: Sequence[str] | None = None) -> None:
        super().__init__()
        self.chosen = places

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        """Attach the variant to the inputs of the modules at the model's feature places.

        Args:
            model: the model.
            layers: names of the modules, by default those at the `places` of the constructor.
            example: ignored, because places are declared.

        Raises:
            ValueError: the variant is already attached, the model has no feature places, or a name is not one of them.
        """
        self.check_detached()
        places = {place.consumer: place for place in feature_places(model)}
        if not places:
            raise ValueError(f"{type(model).__name__} declares no feature places, which this dropout needs")
        given = self.chosen if layers is None else layers
        names = list(places if given is None else given)
        for name in names:
            if name not in places:
                raise ParameterError("places", name, f"one of the model's feature places, {', '.join(places)}")
        for name in names:
            consumer = model.get_submodule(name)
            self.hooks.append(consumer.register_forward_pre_hook(_Hook(self.change_at(places[name], consumer))))
            self.layers[name] = consumer

    def change_at(self, place: FeaturePlace, consumer: nn.Module) -> Callable[[Tensor, bool], Tensor]:
        """Return the function that changes the consumer's input: (input, training mode) → new input."""
        raise NotImplementedError


class OrderingVariant(FeatureVariant):
    """A variant whose features learn an order, so that the last ones are pruned first."""

    def scores(self) -> Scores:
        """Return scores (features,) for every consumer, descending from n - 1 to 0."""
        found = {}
        for name, layer in self.layers.items():
            weight = layer.weight
            assert isinstance(weight, Tensor)
            n = filters_first(layer, weight).shape[1] * getattr(layer, "groups", 1)
            found[name] = torch.arange(n - 1, -1, -1, dtype=torch.float32)
        return {"feature": found}


class _Hook:
    """A forward pre-hook that applies the change according to the module's training or evaluation mode."""

    def __init__(self, change: Callable[[Tensor, bool], Tensor]) -> None:
        self.change = change

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.change(inputs[0], module.training), *inputs[1:])


def _dropped_channels(x: Tensor, p: float) -> Tensor:
    return torch.feature_dropout(x, p, True)  # F.dropout2d, but for any number of dimensions


class FeatureDropout(FeatureVariant):
    """Dropout (Srivastava et al., 2014): in training, each feature of each example is zeroed with probability p.

    The remaining features are rescaled by 1 / (1 - p). Features of images are dropped as whole channels, as in
    nn.Dropout2d. In sequences, every position has its own mask.

    Args:
        p: drop rate, in [0, 1].
        places: see `FeatureVariant`.
    """

    def __init__(self, p: float = 0.5, places: Sequence[str] | None = None) -> None:
        super().__init__(places)
        self.p = fraction("p", p)

    def change_at(self, place: FeaturePlace, consumer: nn.Module) -> Callable[[Tensor, bool], Tensor]:
        return self._of_channels if place.dim == 1 else self._of_entries

    def _of_channels(self, x: Tensor, training: bool) -> Tensor:
        return self.processes.dropped(_dropped_channels, x, self.p) if training else x

    def _of_entries(self, x: Tensor, training: bool) -> Tensor:
        return self.processes.dropped(F.dropout, x, self.p) if training else x
