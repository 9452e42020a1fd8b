"""Targeted weight dropout, ported line by line from the official code as a speed baseline for `targeted`."""

import torch
from torch import Tensor, nn

from runner.dropout.base import WeightVariant
from runner.ranking import count


class _SortWeights(nn.Module):
    def __init__(self, alpha: float, gamma: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, weight: Tensor) -> Tensor:
        magnitude = weight.detach().flatten(1).abs()
        k = count(self.gamma, magnitude.shape[1])
        if k == magnitude.shape[1]:
            targeted = torch.ones_like(magnitude, dtype=torch.bool)
        else:
            targeted = magnitude < magnitude.sort(dim=1).values[:, k : k + 1]
        dropped = targeted.float()
        if self.training:
            dropped = dropped * torch.bernoulli(torch.full_like(magnitude, self.alpha))
        return weight * (1 - dropped).view(weight.shape)


class SortingTargeted(WeightVariant):
    """Targeted weight dropout that sorts every layer in every forward pass. Ties are all kept or all targeted."""

    granularities = ("weight",)

    def __init__(self, alpha: float, gamma: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def parametrization(self, weight: Tensor) -> nn.Module:
        return _SortWeights(self.alpha, self.gamma)
