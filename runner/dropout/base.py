"""What a dropout variant is to the model and the loop that it works in."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from runner.interfaces import Task
from runner.models.layers import filters_first, parameter_of, prunable_layers
from runner.models.modes import evaluation_mode
from runner.processes import ALONE, OneProcess

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
    scope = "layer"  # what `prune.scope=auto` means, see `runner.pruning.ranking.Ranking`
    processes: OneProcess = ALONE  # that share the training; a training says so before the variant attaches

    def __init__(self) -> None:
        self.layers: dict[str, nn.Module] = {}
        self._order: dict[nn.Module, list[str]] = {}  # of the parameters in a layer before the variant attached
        self.hooks: list[RemovableHandle] = []  # on modules of the model; they go when the variant detaches

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        """Put the variant into the model's prunable layers, or into the named ones.

        Args:
            layers: names of modules, or of the parameters of an nn.MultiheadAttention (`self_attn.in_proj_weight`).
            example: an input of the model, by which the first and the last layer are found in the order of computation;
                without one they are the first and the last that the model registers. See
                `runner.models.layers.prunable_layers`.

        Raises:
            ValueError: it is attached already, a name is not in the model, or the variant can't work in a layer. The
                model is then as before.
        """
        self.check_detached()
        chosen = prunable_layers(model, layers, example)
        for name, layer in chosen.items():
            self.check_layer(name, layer)
        self.layers = chosen
        for name, layer in self.layers.items():
            self.attach_layer(name, layer)

    def check_detached(self) -> None:
        """Raises: ValueError if it is attached."""
        if self.layers:
            raise ValueError(f"this {type(self).__name__} is attached already; detach() it first")

    def check_layer(self, name: str, layer: nn.Module) -> None:
        """Raises: ValueError if the variant can't work in the layer."""

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

    def training_loss(self, task: Task[Any], model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor], int]:
        """The loss of a training step, `task.training_loss`; overridden for several forward passes of one batch."""
        return task.training_loss(model, batch)

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
        """The module that turns a layer's raw weight into the weight of this forward pass.

        Both have the filters in dim 0; a transposed convolution's weight is turned round before and after.
        """
        raise NotImplementedError

    def parametrizations(self) -> dict[str, Any]:
        """Layer name → the module that `parametrization` gave, while attached."""
        return {name: self.parametrization_in(layer) for name, layer in self.layers.items()}

    def parametrization_in(self, layer: nn.Module) -> Any:
        """The module in one attached layer."""
        module, name = parameter_of(layer)
        found = module.parametrizations[name][0]  # type: ignore[index]
        return found.inner if isinstance(found, _FiltersFirst) else found

    def raw_parameter(self, layer: nn.Module) -> nn.Parameter:
        """The parameter behind the weight of an attached layer, in the shape that the layer has it in."""
        module, name = parameter_of(layer)
        return module.parametrizations[name].original  # type: ignore[index, union-attr]

    def raw_weight(self, layer: nn.Module) -> Tensor:
        """The raw weight of an attached layer, filters in dim 0."""
        return filters_first(layer, self.raw_parameter(layer))

    def attach_layer(self, name: str, layer: nn.Module) -> None:
        module, parameter = parameter_of(layer)
        weight = getattr(module, parameter)
        filters = filters_first(layer, weight)
        new = self.parametrization(filters)
        new = new if filters is weight else _FiltersFirst(new)
        self._order[layer] = list(module._parameters)
        # unsafe: skips a trial forward pass, which would draw random numbers.
        parametrize.register_parametrization(module, parameter, new, unsafe=True)
        module.parametrizations[parameter].__class__ = _Parametrizations  # type: ignore[index]

    def detach_layer(self, layer: nn.Module) -> None:
        module, parameter = parameter_of(layer)
        baked = self._evaluated(layer) if self.baked else None
        parametrize.remove_parametrizations(module, parameter, leave_parametrized=False)
        if baked is not None:
            with torch.no_grad():
                getattr(module, parameter).copy_(baked)
        # The weight comes back behind the others; optimisers and state dicts go by order.
        for name in self._order.pop(layer):
            if name in module._parameters:
                module._parameters[name] = module._parameters.pop(name)

    @torch.no_grad()
    def _evaluated(self, layer: nn.Module) -> Tensor:
        """The weight that evaluation computes with, in the shape that the layer has it in."""
        module, parameter = parameter_of(layer)
        with evaluation_mode(module):
            return getattr(module, parameter).clone()


class UntilChanged:
    """Masks of all layers together, kept until a weight or a rate changes.

    A forward pass asks for them in every layer, and one through part of a network (a decoder's steps) again.
    """

    def __init__(self) -> None:
        self._state: tuple[object, ...] = ()
        self._masks: dict[str, Tensor] = {}

    def get(self, rate: float, weights: Iterable[Tensor], find: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What `find` returns, or has returned for the same rate and weights."""
        state = (rate, *((weight.data_ptr(), weight._version) for weight in weights))
        if state != self._state:
            self._masks, self._state = find(), state
        return self._masks


class _Parametrizations(parametrize.ParametrizationList):
    """Passes an AttributeError on as another error.

    The weight is a property, and Python takes an AttributeError in a property for a missing attribute: all that would
    be said is that the layer has no weight.
    """

    def forward(self) -> Tensor:
        try:
            return super().forward()
        except AttributeError as error:
            raise RuntimeError(f"AttributeError: {error}") from error


class _FiltersFirst(nn.Module):
    """A parametrization of a weight whose filters are not in dim 0."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, weight: Tensor) -> Tensor:
        return self.inner(weight.transpose(0, 1)).transpose(0, 1)
