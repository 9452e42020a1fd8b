"""Xtreme dropout: ramping targeted dropout down to a fixed number of weights in every filter.

Paper, "Fixed filter sparsity"; a co-author's code (srk97/defense, branch linearize): γ = (n − k) / n for a layer of n
entries a filter, then the ramp of `Targeted`. Computed with `ranking.count`, so that k weights remain and not k + 1,
which binary rounding gave there. The k survivors are the network: the rest is zero when the variant detaches.
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
    """Every filter keeps `kept` weights (all, where it has no more).

    Args:
        alpha: drop rate α at the end of its ramp, in [0, 1].
        ramp: as `Targeted`, of the fraction of the n − k weights that are to go.
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
        return 0.0  # what it prunes is zero in the weights themselves
