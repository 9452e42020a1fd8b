"""Targeted dropout of input channels, by weight norm times mean activation.

Official code `targeted_ard`: the score of input channel i is ‖W_i‖₂, over all filters and positions, times the batch's
mean |x_i|. Each weight that reads one of the floor(γ c) channels of lowest score is dropped with probability α.
Evaluation uses W unchanged, so nothing is pruned and the floor is 0.
"""

from typing import Any

from torch import Tensor, nn

from runner.dropout.calls import Called, CallVariant
from runner.dropout.noise import uniform_like
from runner.parameters import fraction
from runner.processes import OneProcess
from runner.ranking import count, lowest


class _TargetInputs(Called):
    def __init__(self, alpha: float, gamma: float, processes: OneProcess) -> None:
        super().__init__()
        self.processes = processes
        self.alpha = alpha
        self.gamma = gamma
        self.activation: Tensor | None = None  # mean |x| of every input channel, for the current batch

    def look(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Record the mean activations of the inputs; used as a forward pre-hook."""
        if self.training:
            x = inputs[0].detach().abs().float()
            mean = x.flatten(0, -2).mean(0) if isinstance(layer, nn.Linear) else x.transpose(0, 1).flatten(1).mean(1)
            self.activation = self.processes.mean_of_rows(mean)

    def forward(self, weight: Tensor) -> Tensor:
        self.expect_call()
        k = count(self.gamma, weight.shape[1])
        if not self.training or self.activation is None or k == 0 or self.alpha == 0:
            return weight
        norms = weight.detach().transpose(0, 1).flatten(1).norm(dim=1)
        targeted = lowest((norms * self.activation)[None], k)[0]
        drawn = uniform_like(weight) < self.alpha
        return weight * ~(drawn & targeted.view(1, -1, *[1] * (weight.dim() - 2)))


class TargetedARD(CallVariant):
    """Targeted dropout of the weights of input channels.

    Args:
        alpha: drop rate, in [0, 1].
        gamma: targeted fraction of every layer's input channels, in [0, 1].
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 0.5) -> None:
        super().__init__()
        self.alpha = fraction("alpha", alpha)
        self.gamma = fraction("gamma", gamma)

    def parametrization(self, weight: Tensor) -> nn.Module:
        return _TargetInputs(self.alpha, self.gamma, self.processes)

    def check_layer(self, name: str, layer: nn.Module) -> None:
        super().check_layer(name, layer)
        if not isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            kind = type(layer).__name__
            raise ValueError(f"layer {name!r} is a {kind}: TargetedARD takes linear layers and convolutions")
        if getattr(layer, "groups", 1) != 1:
            raise ValueError(
                f"layer {name!r} is a grouped convolution: its input channels have no weights of their own"
            )

    def attach_layer(self, name: str, layer: nn.Module) -> None:
        super().attach_layer(name, layer)
        self.hooks.append(layer.register_forward_pre_hook(self.parametrization_in(layer).look))
