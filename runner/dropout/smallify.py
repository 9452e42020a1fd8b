"""Smallify (Leclerc et al., 2018), with which the paper compares in Table 6; official code `smallify_*`.

Each weight (or filter) has a trainable switch, initially uniform in [0, 1). The layer uses W · switch · mask, and the
penalty cost · Σ |switch| pulls switches to zero. A switch that keeps changing its sign is removed by the mask, which is
updated once per step:

    d = sign(switch) − a;  v ← 0.9 v + 0.1 d²;  a ← 0.9 a + 0.1 sign(switch);  mask ← mask · [v < 0.5],

where a = sign(switch) and v = 0 initially. A removed switch never returns. Weights are pruned by |W · switch · mask|,
which is the magnitude of the weight once detaching has multiplied it by the switches.
"""

import torch
from torch import Tensor, nn

from runner.dropout.base import WeightVariant
from runner.parameters import not_negative
from runner.ranking import like_weight

DECAY = 0.9
LARGEST_VARIANCE = 0.5


class _Switches(nn.Module):
    mask: Tensor
    average: Tensor
    variance: Tensor

    def __init__(self, weight: Tensor, unit: bool) -> None:
        super().__init__()
        shape = weight.new_empty(len(weight), 1) if unit else torch.empty_like(weight)
        self.switch = nn.Parameter(nn.init.uniform_(shape))
        self.register_buffer("mask", torch.ones_like(self.switch, requires_grad=False))
        self.register_buffer("average", self.switch.detach().sign())
        self.register_buffer("variance", torch.zeros_like(self.switch, requires_grad=False))

    def forward(self, weight: Tensor) -> Tensor:
        factor = self.switch * self.mask
        return weight * (like_weight(factor, weight) if factor.shape != weight.shape else factor)

    @torch.no_grad()
    def watch_signs(self) -> None:
        sign = self.switch.sign()
        self.variance.mul_(DECAY).add_((sign - self.average).square(), alpha=1 - DECAY)
        self.average.mul_(DECAY).add_(sign, alpha=1 - DECAY)
        self.mask.mul_(self.variance < LARGEST_VARIANCE)


class Smallify(WeightVariant):
    """Smallify with one switch per weight.

    Args:
        cost: λ of the penalty, at least 0; 1e-5 in the paper's Smallify column.
    """

    granularities: tuple[str, ...] = ("weight",)
    baked = True

    def __init__(self, cost: float = 1e-5) -> None:
        super().__init__()
        self.cost = not_negative("cost", cost)

    def parametrization(self, weight: Tensor) -> nn.Module:
        return _Switches(weight, "unit" in self.granularities)

    def before_step(self, step: int, total: int) -> None:
        for switches in self.parametrizations().values():
            switches.watch_signs()

    def penalty(self) -> Tensor | float:
        if self.cost == 0 or not self.layers:
            return 0.0
        return self.cost * torch.stack([s.switch.abs().sum() for s in self.parametrizations().values()]).sum()


class SmallifyUnit(Smallify):
    """Smallify with one switch per filter.

    Args:
        cost: λ of the penalty, at least 0; 1e-4 in the paper's Smallify column.
    """

    granularities = ("unit",)

    def __init__(self, cost: float = 1e-4) -> None:
        super().__init__(cost)
