"""Variants that use a layer's input or output, so that the layer must be called.

Some modules read the weight of a submodule and compute its output themselves, e.g. nn.MultiheadAttention with
`out_proj`. The hooks of such a submodule never run.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from runner.dropout.base import WeightVariant
from runner.errors import UserError
from runner.models.layers import AttentionProjections


class Called(nn.Module):
    """A parametrization whose layer must be called.

    Hooks record the calls, because the weight may also be read outside a forward pass.
    """

    where = ""  # the variant and the layer, for the error message
    computing = False  # whether the model is in its forward pass
    called = False

    def expect_call(self) -> None:
        """Raise UserError if a forward pass in training uses the weight although the layer was never called."""
        if self.training and self.computing and not self.called:
            raise UserError(_message(self.where, "its weight is used, but the layer is never called"))


class CallVariant(WeightVariant):
    """A variant whose parametrizations are `Called`."""

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        super().attach(model, layers, example)

        def compute(computing: bool) -> None:
            for parametrization in self.parametrizations().values():
                parametrization.computing = computing

        self.hooks.append(model.register_forward_pre_hook(lambda module, inputs: compute(True)))
        self.hooks.append(model.register_forward_hook(lambda module, inputs, output: compute(False)))

    def check_layer(self, name: str, layer: nn.Module) -> None:
        super().check_layer(name, layer)
        if isinstance(layer, AttentionProjections | NonDynamicallyQuantizableLinear):
            problem = "nn.MultiheadAttention uses its weight and never calls it"
            raise ValueError(_message(self._where(name), problem))

    def attach_layer(self, name: str, layer: nn.Module) -> None:
        super().attach_layer(name, layer)
        parametrization: Called = self.parametrization_in(layer)
        parametrization.where = self._where(name)

        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            parametrization.called = True

        self.hooks.append(layer.register_forward_pre_hook(note))

    def _where(self, name: str) -> str:
        return f"{type(self).__name__} can't be used in layer {name!r}"


def _message(where: str, problem: str) -> str:
    return f"{where}: {problem}. Name the other layers: attach(model, [...])"
