"""The doors between a dropout variant and the model and loop that it works in."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from runner.models.layers import prunable_layers

Scores = dict[str, dict[str, Tensor]]


class Variant:
    """A dropout variant; this base class is `dropout=none`, which changes nothing.

    In anyone's own loop::

        variant = Targeted(alpha=0.66, gamma=0.75)
        variant.attach(model)  # then train as ever; before the optimiser is made if the variant has parameters
        variant.detach()  # the model is plain again

    `granularities` says what the variant is about: "weight", "unit" or both.
    """

    granularities: tuple[str, ...] = ("weight", "unit")

    def __init__(self) -> None:
        self.layers: dict[str, nn.Module] = {}
        self.hooks: list[RemovableHandle] = []  # on modules of the model; they go when the variant detaches

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None) -> None:
        """Put the variant into the model's prunable layers, or into the named ones.

        Raises:
            ValueError: it is attached already, or a name is not in the model.
        """
        if self.layers:
            raise ValueError(f"this {type(self).__name__} is attached already; detach() it first")
        self.layers = prunable_layers(model, layers)
        for name, layer in self.layers.items():
            self.attach_layer(name, layer)

    def attach_layer(self, name: str, layer: nn.Module) -> None:
        """Put the variant into one layer."""

    def detach(self) -> None:
        """Take the variant out: plain layers, nothing random and nothing pruned left in them."""
        for hook in self.hooks:
            hook.remove()
        for layer in self.layers.values():
            self.detach_layer(layer)
        self.layers, self.hooks = {}, []

    def detach_layer(self, layer: nn.Module) -> None:
        """Take the variant out of one layer."""

    def before_step(self, step: int, total: int) -> None:
        """Called before every training step (0 <= step < total): annealing, once-a-step state."""

    def after_backward(self, optimizer: Optimizer) -> None:
        """Called between the backward pass and the optimiser's step."""

    def penalty(self) -> Tensor | float:
        """A term of the loss."""
        return 0.0

    def scores(self) -> Scores:
        """What pruning ranks by, where that is not weight magnitude and filter L2 norm.

        Returns:
            granularity → layer name → scores, (filters, entries) for "weight", (filters,) for "unit"; lowest go first.
        """
        return {}

    def floor(self, granularity: str) -> float:
        """The fraction that this variant prunes in evaluation while attached; what `prune.floor=auto` means."""
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beyond the model's and the optimiser's state: plain values and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""


class WeightVariant(Variant):
    """A variant that is a parametrization of every prunable layer's weight; see `torch.nn.utils.parametrize`.

    `baked` variants leave the weight of their evaluation behind when they detach (gates multiplied in, removed weights
    zero); the others the raw weight.
    """

    baked = False

    def parametrization(self, weight: Tensor) -> nn.Module:
        """The module that turns a layer's raw weight into the weight of this forward pass."""
        raise NotImplementedError

    def parametrizations(self) -> dict[str, Any]:
        """Layer name → the module that `parametrization` gave, while attached."""
        return {name: self.parametrization_in(layer) for name, layer in self.layers.items()}

    def parametrization_in(self, layer: nn.Module) -> Any:
        """The module in one attached layer."""
        return layer.parametrizations.weight[0]  # type: ignore[union-attr, index]

    def attach_layer(self, name: str, layer: nn.Module) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        # unsafe: skips a trial forward pass, which would draw random numbers.
        parametrize.register_parametrization(layer, "weight", self.parametrization(weight), unsafe=True)

    def detach_layer(self, layer: nn.Module) -> None:
        baked = self._evaluated(layer) if self.baked else None
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        if baked is not None:
            with torch.no_grad():
                layer.weight.copy_(baked)  # type: ignore[operator]
        # The weight comes back behind the bias; optimisers and state dicts go by order.
        others = [name for name in layer._parameters if name != "weight"]
        for name in others:
            layer._parameters[name] = layer._parameters.pop(name)

    @torch.no_grad()
    def _evaluated(self, layer: nn.Module) -> Tensor:
        training = layer.training
        weight = layer.eval().weight
        layer.train(training)
        assert isinstance(weight, Tensor)
        return weight.clone()
