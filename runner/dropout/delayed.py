"""Hard pruning of the targeted members, starting at a given progress.

Official code `delayed_targeted_weight_prune` and `delayed_targeted_unit_prune`: nothing is pruned until step 5,000 of
100,000. Afterwards the targeted members are zero in every forward pass of training and evaluation, and are selected
anew each time. This is targeted dropout with α = 1 and a late start. Members that are zero at the end remain zero when
the variant is detached.
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
        return 0.0  # pruned members are zero in the weights themselves


class Delayed(_Late):
    """Prune the fraction `gamma` of every filter's weights, starting at progress `start`; both are in [0, 1]."""

    def __init__(self, gamma: float = 0.5, start: float = 0.05) -> None:
        self.start = fraction("start", start)
        super().__init__(1.0, gamma)


class DelayedUnit(_Late, TargetedUnit):
    """Prune the fraction `gamma` of every layer's filters, starting at progress `start`; both are in [0, 1]."""

    def __init__(self, gamma: float = 0.5, start: float = 0.05) -> None:
        self.start = fraction("start", start)
        TargetedUnit.__init__(self, 1.0, gamma)
