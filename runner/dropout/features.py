"""Variants that work on features, at the places that a model declares; and plain dropout there."""

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
    """Changes the input of the modules that the model's feature places name; the model stays as it is.

    Args:
        places: names of the modules, of those that the model declares; None: all of them.
    """

    granularities = ("feature",)

    def __init__(self, places: Sequence[str] | None = None) -> None:
        super().__init__()
        self.chosen = places

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        """Put the variant before the modules that the model's feature places name, or before those of them in `layers`.

        Places are declared, so that `example` makes no difference.

        Raises:
            ValueError: it is attached already, the model has no feature places, or none of that name.
        """
        self.check_detached()
        places = {place.consumer: place for place in feature_places(model)}
        if not places:
            raise ValueError(f"{type(model).__name__} declares no feature places, which this dropout is for")
        names = self.chosen if layers is None else layers
        for name in places if names is None else names:
            if name not in places:
                raise ParameterError("places", name, f"one of the model's feature places, {', '.join(places)}")
            consumer = model.get_submodule(name)
            self.hooks.append(consumer.register_forward_pre_hook(_Hook(self.change_at(places[name], consumer))))
            self.layers[name] = consumer

    def change_at(self, place: FeaturePlace, consumer: nn.Module) -> Callable[[Tensor, bool], Tensor]:
        """What becomes of the consumer's input: a function of it and of whether the consumer is in training."""
        raise NotImplementedError


class OrderingVariant(FeatureVariant):
    """A variant whose features learn an order, so that the last ones are the first to go."""

    def scores(self) -> Scores:
        """(features,) for every consumer: n - 1 … 0."""
        found = {}
        for name, layer in self.layers.items():
            weight = layer.weight
            assert isinstance(weight, Tensor)
            n = filters_first(layer, weight).shape[1] * getattr(layer, "groups", 1)
            found[name] = torch.arange(n - 1, -1, -1, dtype=torch.float32)
        return {"feature": found}


class _Hook:
    """A forward pre-hook: the change in the mode of the module that the input goes to."""

    def __init__(self, change: Callable[[Tensor, bool], Tensor]) -> None:
        self.change = change

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.change(inputs[0], module.training), *inputs[1:])


class FeatureDropout(FeatureVariant):
    """Plain dropout (Srivastava et al., 2014): each feature of each example is zero with probability p in training.

    What is left is rescaled by 1 / (1 - p). A feature of an image goes as a whole channel, as in nn.Dropout2d; in
    sequences every position draws its own.

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
        return self.processes.dropped(F.dropout2d, x, self.p) if training else x

    def _of_entries(self, x: Tensor, training: bool) -> Tensor:
        return self.processes.dropped(F.dropout, x, self.p) if training else x
