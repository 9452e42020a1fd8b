"""Xtreme dropout: targeted dropout that ramps down to a fixed number of weights in every filter.

Paper, "Fixed filter sparsity"; a co-author's code (srk97/defense, branch linearize): γ = (n − k) / n for filters of n
entries, with the ramp of `Targeted`. The number is computed with `ranking.count`, so that exactly k weights remain; in
that code, binary rounding could leave k + 1. All other weights are zero when the variant is detached.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from runner.dropout.targeted import Targeted, TargetWeights
from runner.parameters import whole


class _KeepWeights(TargetWeights):
    kept = 3

    def gamma(self, n: int) -> float:
        return self.rates.gamma * max(0, n - self.kept) / n


class Xtreme(Targeted):
    """Targeted weight dropout that leaves a fixed number of weights in every filter.

    Args:
        kept: the number k of weights that every filter keeps. Filters with fewer weights keep all of them.
        alpha: drop rate α at the end of its ramp, in [0, 1].
        ramp: as for `Targeted`, where γ is the fraction of the n − k weights to remove.
    """

    baked = True

    def __init__(self, kept: int = 3, alpha: float = 0.99, ramp: Sequence[float] | None = (0.2, 0.4, 0.4)) -> None:
        super().__init__(alpha, 1.0, ramp)
        self.kept = whole("kept", kept)

    def parametrization(self, weight: Tensor) -> nn.Module:
        module = _KeepWeights(self.rates)
        module.kept = self.kept
        return module

    def floor(self, granularity: str) -> float:
        return 0.0  # pruned weights are zero in the weights themselves
