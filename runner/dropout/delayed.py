"""Hard pruning of what is targeted, from a given progress on.

Official code `delayed_targeted_weight_prune` and `delayed_targeted_unit_prune`: nothing until step 5,000 of 100,000;
from then on the targeted members are zero in every forward pass of training and evaluation, chosen anew each time.
It is targeted dropout with α = 1 and a late start. What is zero at the end stays so when the variant detaches.
"""

from runner.dropout.targeted import Targeted, TargetedUnit
from runner.parameters import fraction


class _Late(Targeted):
    start: float
    baked = True

    def before_step(self, step: int, total: int) -> None:
        self.rates.alpha = 1.0
        self.rates.gamma = self.gamma if step >= self.start * total else 0.0

    def floor(self, granularity: str) -> float:
        return 0.0  # what it prunes is zero in the weights themselves


class Delayed(_Late):
    """Weights: `gamma` of every filter, from progress `start` on; both in [0, 1]."""

    def __init__(self, gamma: float = 0.5, start: float = 0.05) -> None:
        self.start = fraction("start", start)
        super().__init__(1.0, gamma)


class DelayedUnit(_Late, TargetedUnit):
    """Filters: `gamma` of every layer, from progress `start` on; both in [0, 1]."""

    def __init__(self, gamma: float = 0.5, start: float = 0.05) -> None:
        self.start = fraction("start", start)
        TargetedUnit.__init__(self, 1.0, gamma)
