"""Untargeted dropout of weights and of units: Srivastava et al. (2014), Wan et al. (2013); paper, section 2.1.

Training: Y = X (W ⊙ M) / (1 − α) with M ~ Bernoulli(1 − α). There is one mask per layer and forward pass, shared by the
batch. For units, M has one entry per filter: the paper's (X ⊙ M) W, but on the output side, as in the official code.
Evaluation: W. The factor 1 / (1 − α) is that of `untargeted_weight` and `untargeted_unit` in the official code.
"""

import torch
from torch import Tensor, nn

from runner.dropout.base import WeightVariant
from runner.parameters import fraction
from runner.ranking import like_weight, rows


class _Drop(nn.Module):
    def __init__(self, alpha: float, unit: bool) -> None:
        super().__init__()
        self.alpha = alpha
        self.unit = unit

    def forward(self, weight: Tensor) -> Tensor:
        if not self.training or self.alpha == 0:
            return weight
        if self.alpha == 1:
            return torch.zeros_like(weight)
        matrix = rows(weight)
        shape = (matrix.shape[0], 1) if self.unit else matrix.shape
        kept = torch.rand(shape, device=weight.device) >= self.alpha
        return weight * like_weight(kept / (1 - self.alpha), weight).to(weight.dtype)


class WeightDropout(WeightVariant):
    """Dropout of every weight with probability `alpha`, in [0, 1]."""

    granularities: tuple[str, ...] = ("weight",)

    def __init__(self, alpha: float = 0.25) -> None:
        super().__init__()
        self.alpha = fraction("alpha", alpha)

    def parametrization(self, weight: Tensor) -> nn.Module:
        return _Drop(self.alpha, unit="unit" in self.granularities)


class UnitDropout(WeightDropout):
    """Dropout of every filter, as a whole, with probability `alpha`, in [0, 1]."""

    granularities = ("unit",)
