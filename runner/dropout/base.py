"""The base classes of dropout variants, and their interface to the model and the training loop."""

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
    """The base class of dropout variants. It changes nothing itself, and is the choice `dropout=none`.

    In a training loop of your own::

        variant = Targeted(alpha=0.66, gamma=0.75)
        variant.attach(model)  # then train as usual; attach before creating the optimizer if the variant has parameters
        variant.detach()  # the model is an ordinary module again

    Attributes:
        granularities: the granularities that the variant applies to, such as "weight" and "unit".
    """

    granularities: tuple[str, ...] = ("weight", "unit")
    scope = "layer"  # the meaning of `prune.scope=auto`, see `runner.pruning.ranking.Ranking`
    processes: OneProcess = ALONE  # the processes that share the training, which sets this before attaching the variant

    def __init__(self) -> None:
        self.layers: dict[str, nn.Module] = {}
        self._order: dict[nn.Module, list[str]] = {}  # layer → names of its parameters before the variant was attached
        self.hooks: list[RemovableHandle] = []  # hooks on modules of the model, which `detach` removes

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        """Attach the variant to the model's prunable layers, or to the given layers.

        Args:
            model: the model.
            layers: names of modules, or of the parameters of an nn.MultiheadAttention (`self_attn.in_proj_weight`).
            example: an example input, used to find the first and the last layer in the order of computation. If it is
                None, the order of registration is used instead. See `runner.models.layers.prunable_layers`.

        Raises:
            ValueError: the variant is already attached, a name is not in the model, or the variant does not support a
                layer. The model is unchanged in that case.
        """
        self.check_detached()
        chosen = prunable_layers(model, layers, example)
        for name, layer in chosen.items():
            self.check_layer(name, layer)
        self.layers = chosen
        for name, layer in self.layers.items():
            self.attach_layer(name, layer)

    def check_detached(self) -> None:
        """Raise ValueError if the variant is attached."""
        if self.layers:
            raise ValueError(f"this {type(self).__name__} is attached already; detach() it first")

    def check_layer(self, name: str, layer: nn.Module) -> None:
        """Raise ValueError if the variant does not support the layer."""

    def attach_layer(self, name: str, layer: nn.Module) -> None:
        """Attach the variant to one layer."""

    def detach(self) -> None:
        """Remove the variant from the model, whose layers then drop and prune nothing."""
        for hook in self.hooks:
            hook.remove()
        for layer in self.layers.values():
            self.detach_layer(layer)
        self.layers, self.hooks = {}, []

    def detach_layer(self, layer: nn.Module) -> None:
        """Remove the variant from one layer."""

    def before_step(self, step: int, total: int) -> None:
        """Update annealed values and other per-step state; called before every training step, 0 <= step < total."""

    def training_loss(self, task: Task[Any], model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor], int]:
        """Return the loss of a training step, in the same form as `task.training_loss`.

        Variants that need several forward passes per batch override this method.
        """
        return task.training_loss(model, batch)

    def after_backward(self, optimizer: Optimizer) -> None:
        """Modify gradients or weights; called between the backward pass and the optimizer's step."""

    def penalty(self) -> Tensor | float:
        """Return the variant's penalty, which is added to the loss."""
        return 0.0

    def scores(self) -> Scores:
        """Return the variant's own pruning scores, or {} if it prunes by weight magnitude and filter L2 norm.

        Returns:
            a mapping from granularities to the scores of each layer: (filters, entries) for "weight", (filters,) for
            "unit" and (features,) for "feature". The lowest scores are pruned first.
        """
        return {}

    def floor(self, granularity: str) -> float:
        """Return the fraction of members that the attached variant prunes in evaluation; used by `prune.floor=auto`."""
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the variant's state, as plain values and tensors, without the state of the model and optimizer."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state returned by `state_dict`."""


class WeightVariant(Variant):
    """A variant that parametrizes the weight of every prunable layer; see `torch.nn.utils.parametrize`.

    Attributes:
        baked: whether detaching leaves the weight used in evaluation (multiplied by the gates, with removed weights set
            to zero) instead of the raw weight.
    """

    baked = False

    def parametrization(self, weight: Tensor) -> nn.Module:
        """Return the module that maps a layer's raw weight to the weight of the current forward pass.

        Both weights have the filters in dim 0; those of transposed convolutions are transposed before and after.
        """
        raise NotImplementedError

    def parametrizations(self) -> dict[str, Any]:
        """Return the parametrization of each layer, by name, while the variant is attached."""
        return {name: self.parametrization_in(layer) for name, layer in self.layers.items()}

    def parametrization_in(self, layer: nn.Module) -> Any:
        """Return the parametrization of one attached layer."""
        module, name = parameter_of(layer)
        found = module.parametrizations[name][0]  # type: ignore[index]
        return found.inner if isinstance(found, _FiltersFirst) else found

    def raw_parameter(self, layer: nn.Module) -> nn.Parameter:
        """Return the raw parameter of an attached layer, in the layer's own shape."""
        return raw_parameter(layer)

    def raw_weight(self, layer: nn.Module) -> Tensor:
        """Return the raw weight of an attached layer, with the filters in dim 0."""
        return filters_first(layer, self.raw_parameter(layer))

    def check_layer(self, name: str, layer: nn.Module) -> None:
        module, parameter = parameter_of(layer)
        if parameter not in module._parameters:
            raise ValueError(f"the weight of layer {name!r} is computed by another parametrization, which comes first")

    def attach_layer(self, name: str, layer: nn.Module) -> None:
        module, parameter = parameter_of(layer)
        weight = getattr(module, parameter)
        filters = filters_first(layer, weight)
        new = self.parametrization(filters)
        new = new if filters is weight else _FiltersFirst(new)
        self._order[layer] = list(module._parameters)
        # unsafe=True skips a trial forward pass, which would draw random numbers.
        parametrize.register_parametrization(module, parameter, new, unsafe=True)
        module.parametrizations[parameter].__class__ = _Parametrizations  # type: ignore[index]

    def detach_layer(self, layer: nn.Module) -> None:
        module, parameter = parameter_of(layer)
        baked = self._evaluated(layer) if self.baked else None
        parametrize.remove_parametrizations(module, parameter, leave_parametrized=False)
        if baked is not None:
            with torch.no_grad():
                getattr(module, parameter).copy_(baked)
        # The weight is registered again after the other parameters, but optimizers and state dicts rely on the order.
        for name in self._order.pop(layer):
            if name in module._parameters:
                module._parameters[name] = module._parameters.pop(name)

    @torch.no_grad()
    def _evaluated(self, layer: nn.Module) -> Tensor:
        """Return the weight used in evaluation, in the layer's own shape."""
        module, parameter = parameter_of(layer)
        with evaluation_mode(module):
            return getattr(module, parameter).clone()


def raw_parameter(layer: nn.Module) -> nn.Parameter:
    """Return the raw parameter of a parametrized layer, in the layer's own shape."""
    module, name = parameter_of(layer)
    return module.parametrizations[name].original  # type: ignore[index, union-attr]


class UntilChanged:
    """A cache of the masks of all layers, valid until a weight or a rate changes.

    Every layer requests its mask in each forward pass, including passes through a part of a network, such as decoding
    steps. Fused optimizers and `weight.data` change weights without a trace, so `start`, a forward pre-hook of the
    whole model, clears the cache in training and in the first pass after it.
    """

    def __init__(self) -> None:
        self._state: tuple[object, ...] = ()
        self._masks: dict[str, Tensor] = {}
        self._trained = False

    @torch.compiler.disable
    def start(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        if model.training or self._trained:
            self._state, self._masks = (), {}
        self._trained = model.training

    def get(self, rate: float, weights: Iterable[Tensor], find: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the cached masks. If the rate or a weight has changed, call `find` to compute them again."""
        state = (rate, *((weight.data_ptr(), weight._version) for weight in weights))
        if state != self._state:
            self._masks, self._state = find(), state
        return self._masks


class _Parametrizations(parametrize.ParametrizationList):
    """A parametrization list that raises RuntimeError instead of AttributeError.

    The weight is a property, and Python treats an AttributeError inside a property as a missing attribute: the message
    would only be that the layer has no weight.
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
