"""Sparse variational dropout (Molchanov et al., 2017); the official code follows BayesWatch/tf-variational-dropout.

Each weight (or filter, for units) has a parameter log σ², initially −10; log α = clip(log σ² − log(w² + 1e-8), −8, 8).

- training, with local reparametrization at the output: y ~ N(x ∗ w, x² ∗ (α w²) + 1e-8);
- evaluation: weights with log α ≥ 3 are zero;
- penalty: scale / examples · min(1, t / warmup) · KL at progress t, with
  KL = −Σ [k₁ σ(k₂ + k₃ log α) − ½ log(1 + 1 / α) − k₁],  k = 0.63576, 1.87320, 1.48695.

Weights are pruned by largest log α, as in the code; filters by the norm of the weights that remain in evaluation (in
the code, of all weights). The official code also removed the first BatchNorm of every residual unit of its variational
networks; the models of this package keep theirs. The official code uses no weight decay, so the tables set
schedule.weight_decay=0 for this column. Detaching leaves the weights of evaluation.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.dropout.base import Scores
from runner.dropout.calls import Called, CallVariant
from runner.dropout.noise import normal_like
from runner.parameters import fraction, not_negative, whole
from runner.processes import OneProcess
from runner.ranking import like_weight

K1, K2, K3 = 0.63576, 1.87320, 1.48695
LARGEST_LOG_ALPHA = 3.0


def kl(log_alpha: Tensor) -> Tensor:
    """Return the approximate KL divergence to the log-uniform prior, summed over weights."""
    return -(K1 * (K2 + K3 * log_alpha).sigmoid() - 0.5 * F.softplus(-log_alpha) - K1).sum()


class _Noise(Called):
    def __init__(self, weight: Tensor, unit: bool, processes: OneProcess) -> None:
        super().__init__()
        self.processes = processes
        log_sigma2 = weight.new_full((len(weight), 1), -10.0) if unit else torch.full_like(weight, -10.0)
        self.log_sigma2 = nn.Parameter(log_sigma2)

    def log_alpha(self, weight: Tensor) -> Tensor:
        """Return log α in the weight's shape, clipped to [−8, 8]."""
        log_sigma2: Tensor = self.log_sigma2
        if log_sigma2.shape != weight.shape:
            log_sigma2 = like_weight(log_sigma2, weight)
        return (log_sigma2 - (weight.square() + 1e-8).log()).clamp(-8, 8)

    def forward(self, weight: Tensor) -> Tensor:
        if self.training:
            self.expect_call()
            return weight
        return weight * (self.log_alpha(weight) < LARGEST_LOG_ALPHA)

    def perturb(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """Add the noise of the local reparametrization to the output; used as a forward hook."""
        if not self.training:
            return None
        weight: Tensor = layer.parametrizations.weight.original  # type: ignore[assignment, union-attr]
        variance_of_weight = self.log_alpha(weight).exp() * weight.square()
        x2 = inputs[0].square()
        if isinstance(layer, nn.Linear):
            variance = F.linear(x2, variance_of_weight)
        else:
            assert isinstance(layer, nn.Conv2d)
            variance = layer._conv_forward(x2, variance_of_weight, None)
        return output + (variance + 1e-8).sqrt() * normal_like(output, self.processes)


class Variational(CallVariant):
    """Variational dropout of weights.

    Args:
        scale: the factor of the KL term; 1/100 in the code, which with `examples` gives the paper's 0.01 / 50,000.
        warmup: the progress at which the KL term reaches its full weight; 50,000 of 100,000 steps in the code.
        examples: the divisor of the KL term; 50,000 in the code, for any data.
    """

    granularities: tuple[str, ...] = ("weight",)
    baked = True

    def __init__(self, scale: float = 0.01, warmup: float = 0.5, examples: int = 50000) -> None:
        super().__init__()
        self.scale = not_negative("scale", scale) / whole("examples", examples)
        self.warmup = fraction("warmup", warmup)
        self.rise = 0.0

    def parametrization(self, weight: Tensor) -> nn.Module:
        return _Noise(weight, "unit" in self.granularities, self.processes)

    def check_layer(self, name: str, layer: nn.Module) -> None:
        super().check_layer(name, layer)
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            kind = type(layer).__name__
            raise ValueError(f"layer {name!r} is a {kind}: Variational takes linear layers and 2-d convolutions")

    def attach_layer(self, name: str, layer: nn.Module) -> None:
        super().attach_layer(name, layer)
        self.hooks.append(layer.register_forward_hook(self.parametrization_in(layer).perturb))

    def before_step(self, step: int, total: int) -> None:
        self.rise = 1.0 if step >= self.warmup * total else step / (self.warmup * total)

    def _log_alphas(self) -> dict[str, Tensor]:
        noises = self.parametrizations()
        return {n: noises[n].log_alpha(self.raw_weight(layer)) for n, layer in self.layers.items()}

    def penalty(self) -> Tensor | float:
        if self.scale == 0 or not self.layers:
            return 0.0
        return self.scale * self.rise * torch.stack([kl(value) for value in self._log_alphas().values()]).sum()

    def scores(self) -> Scores:
        if "unit" in self.granularities:
            return {}
        return {"weight": {n: -value.detach().contiguous().flatten(1) for n, value in self._log_alphas().items()}}


class VariationalUnit(Variational):
    """Variational dropout with one log σ² per filter but one log α per weight. See `Variational` for the arguments."""

    granularities = ("unit",)
