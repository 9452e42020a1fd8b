"""Gradual magnitude pruning: Zhu & Gupta (2018), "To prune, or not to prune"; not in the paper, used everywhere today.

In progress t the sparsity rises as a cubic from 0 at `start` to `sparsity` at `end`:

    s(t) = sparsity · (1 − (1 − (t − start) / (end − start))³),

in `updates` jumps, equally spaced, after each of which the floor(s n) smallest weights of every filter are zero in the
forward pass. Their raw values stay, moved by weight decay alone, so one can come back at the next update. The fraction
is that of every filter, as our sweep prunes (Zhu & Gupta: of every layer). What is zero at the end stays so when the
variant detaches.
"""

from torch import Tensor, nn

from runner.dropout.base import WeightVariant
from runner.dropout.mask import Mask
from runner.errors import ParameterError
from runner.parameters import fraction, whole
from runner.ranking import count, like_weight, lowest, rows


class _Shrinking(Mask):
    def update(self, weight: Tensor, sparsity: float) -> None:
        scores = rows(weight.detach()).abs()
        self.kept.copy_(like_weight(~lowest(scores, count(sparsity, scores.shape[1])), weight))


class GradualMagnitude(WeightVariant):
    """Args:
    sparsity: of every filter at the end, in [0, 1].
    start, end: the progress between which it rises, in [0, 1].
    updates: how many jumps.
    """

    granularities: tuple[str, ...] = ("weight",)
    baked = True

    def __init__(self, sparsity: float = 0.9, start: float = 0.1, end: float = 0.7, updates: int = 50) -> None:
        super().__init__()
        self.sparsity = fraction("sparsity", sparsity)
        self.start = fraction("start", start)
        self.end = fraction("end", end)
        if start >= end:
            raise ParameterError("start", start, f"less than end={end}")
        self.updates = whole("updates", updates)

    def parametrization(self, weight: Tensor) -> nn.Module:
        return _Shrinking(weight)

    def jump(self, step: int, total: int) -> int:
        """How many jumps are due at a step."""
        progress = ((step + 1) / total - self.start) / (self.end - self.start)
        return min(self.updates, max(0, count(progress, self.updates)))

    def before_step(self, step: int, total: int) -> None:
        jump = self.jump(step, total)
        if jump and (step == 0 or jump != self.jump(step - 1, total)):
            sparsity = self.sparsity * (1 - (1 - jump / self.updates) ** 3)
            for name, mask in self.parametrizations().items():
                mask.update(self.raw_weight(self.layers[name]), sparsity)
