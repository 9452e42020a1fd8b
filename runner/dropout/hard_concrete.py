"""L0 regularization by hard concrete gates: Louizos et al. (2018); the paper's L0 columns, official code `louizos_*`.

Each weight (or filter) has a gate with logit φ. With u uniform in (0, 1), β = 2/3, γ = −0.1, ζ = 1.1:

- training: s = σ((φ + log u − log(1 − u)) / β); evaluation: s = σ(φ);
- gate z = clip(s (ζ − γ) + γ, 0, 1); the layer uses the weight W · z;
- penalty: cost / examples · Σ σ(φ − β log(−γ / ζ)), the expected number of nonzero gates, where the gate of a filter
  counts once per entry of the filter.

φ is initialized from N(log(1 − p) − log p, 0.01), where p = `initial_drop` is the initial probability of being dropped.
Weights are pruned by lowest gate logit, regardless of magnitude. Detaching multiplies the weights by the gates of
evaluation.
"""

import math

import torch
from torch import Tensor, nn

from runner.dropout.base import Scores, WeightVariant
from runner.dropout.noise import uniform_like
from runner.parameters import not_negative, proper_fraction, whole
from runner.ranking import like_weight

BETA = 2 / 3
GAMMA = -0.1
ZETA = 1.1


def gate(logits: Tensor, uniform: Tensor | None = None) -> Tensor:
    """Return gates z in [0, 1]: random ones if uniform numbers in (0, 1) are given, otherwise those of evaluation."""
    if uniform is not None:
        logits = (logits + uniform.log() - (-uniform).log1p()) / BETA
    return (logits.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


class _Gates(nn.Module):
    def __init__(self, weight: Tensor, unit: bool, initial_drop: float) -> None:
        super().__init__()
        mean = math.log(1 - initial_drop) - math.log(initial_drop)
        # empty_like keeps the weight's memory format, which keeps products with it fast.
        logits = weight.new_empty(len(weight), 1) if unit else torch.empty_like(weight)
        self.logits = nn.Parameter(nn.init.normal_(logits, mean, 0.01))
        self.each = weight[0].numel() if unit else 1

    def forward(self, weight: Tensor) -> Tensor:
        uniform = None
        if self.training:
            # rand can return 0, whose logarithm is not finite.
            uniform = uniform_like(self.logits).clamp_(1e-6, 1 - 1e-6)
        z = gate(self.logits, uniform).to(weight.dtype)  # uniform numbers are float32
        return weight * (like_weight(z, weight) if z.shape != weight.shape else z)

    def expected(self) -> Tensor:
        """Return the expected number of nonzero weights."""
        return self.each * (self.logits - BETA * math.log(-GAMMA / ZETA)).sigmoid().sum()


class HardConcrete(WeightVariant):
    """L0 regularization with one gate per weight.

    Args:
        cost: λ of the penalty, at least 0; 0.1 in the paper's L0 column.
        initial_drop: p, in (0, 1); 0.001 in the code for ResNets.
        examples: the divisor of λ; the code uses 50,000, the size of CIFAR's training set, for any data.
    """

    granularities: tuple[str, ...] = ("weight",)
    baked = True

    def __init__(self, cost: float = 0.1, initial_drop: float = 0.001, examples: int = 50000) -> None:
        super().__init__()
        self.cost = not_negative("cost", cost) / whole("examples", examples)
        self.initial_drop = proper_fraction("initial_drop", initial_drop)

    def parametrization(self, weight: Tensor) -> nn.Module:
        return _Gates(weight, "unit" in self.granularities, self.initial_drop)

    def penalty(self) -> Tensor | float:
        if self.cost == 0 or not self.layers:
            return 0.0
        return self.cost * torch.stack([gates.expected() for gates in self.parametrizations().values()]).sum()

    def scores(self) -> Scores:
        logits = {name: gates.logits.detach() for name, gates in self.parametrizations().items()}
        if "unit" in self.granularities:
            return {"unit": {name: value[:, 0] for name, value in logits.items()}}
        return {"weight": {name: value.contiguous().flatten(1) for name, value in logits.items()}}


class HardConcreteUnit(HardConcrete):
    """L0 regularization with one gate per filter. See `HardConcrete` for the arguments; the paper's cost is 0.01."""

    granularities = ("unit",)

    def __init__(self, cost: float = 0.01, initial_drop: float = 0.001, examples: int = 50000) -> None:
        super().__init__(cost, initial_drop, examples)
