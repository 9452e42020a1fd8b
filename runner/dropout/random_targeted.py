"""Targeted dropout of a fixed random selection, a baseline for targeting by magnitude.

Paper, Table 7 and section "Exploring Recent Discussions and Concerns"; official code `targeted_weight_random` and
`targeted_unit_random`. When the variant is attached, every weight (or filter) gets a number uniform in [0, 1). The
floor(γ n) lowest of every filter (or the floor(γ m) lowest filters of every layer) are targeted permanently. Each of
them is dropped with probability α in training (filters as a whole), and all of them are zero in evaluation.

The official code compares each number with γ instead, so its sparsity is γ only on average. Here it is exact.

With α = 1, the selection is pruned before training, like the paper's *random-prune* control.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from runner.dropout.base import Scores
from runner.dropout.noise import uniform_like
from runner.dropout.rates import Rates
from runner.dropout.targeted import Targeted, TargetUnits, TargetWeights
from runner.ranking import rows


class _RandomWeights(TargetWeights):
    fixed: Tensor

    def __init__(self, rates: Rates, weight: Tensor) -> None:
        super().__init__(rates)
        self.register_buffer("fixed", uniform_like(weight))

    def scores(self, weight: Tensor) -> Tensor:
        return rows(self.fixed)


class _RandomUnits(TargetUnits):
    fixed: Tensor

    def __init__(self, rates: Rates, weight: Tensor) -> None:
        super().__init__(rates)
        self.register_buffer("fixed", torch.rand(len(weight), device=weight.device))

    def scores(self, weight: Tensor) -> Tensor:
        return self.fixed


class RandomTargeted(Targeted):
    """Randomly targeted weight dropout. See `Targeted` for the arguments; α = 1 prunes before training."""

    def __init__(self, alpha: float = 0.5, gamma: float = 0.5, ramp: Sequence[float] | None = None) -> None:
        super().__init__(alpha, gamma, ramp)

    def parametrization(self, weight: Tensor) -> nn.Module:
        return _RandomWeights(self.rates, weight)

    def scores(self) -> Scores:
        return {"weight": {n: m.fixed.contiguous().flatten(1) for n, m in self.parametrizations().items()}}


class RandomTargetedUnit(RandomTargeted):
    """Randomly targeted unit dropout. See `Targeted` for the arguments; α = 1 prunes before training."""

    granularities = ("unit",)

    def parametrization(self, weight: Tensor) -> nn.Module:
        return _RandomUnits(self.rates, weight)

    def scores(self) -> Scores:
        return {"unit": {name: module.fixed for name, module in self.parametrizations().items()}}
