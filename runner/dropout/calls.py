"""Variants that work on a layer's input or output: they see it only if the layer is called.

Some modules read the weight of a layer inside them and do the layer's work themselves, as nn.MultiheadAttention does
with its `out_proj`. Hooks of such a layer never fire.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from runner.dropout.base import WeightVariant
from runner.errors import UserError
from runner.models.layers import AttentionProjections


class Called(nn.Module):
    """A parametrization whose layer has to be called.

    It is told by hooks what happens; the weight may be read in between, by somebody who looks at it.
    """

    where = ""  # the variant and the layer, for the error
    computing = False  # whether the model is in its forward pass
    called = False

    def expect_call(self) -> None:
        """Raises: UserError if a forward pass in training uses the weight though the layer was never called."""
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
        return f"{type(self).__name__} can't work in layer {name!r}"


def _message(where: str, problem: str) -> str:
    return f"{where}: {problem}. Name the other layers: attach(model, [...])"
