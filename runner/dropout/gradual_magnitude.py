"""Gradual magnitude pruning: Zhu & Gupta (2018), "To prune, or not to prune". It is not in the paper, but widely used.

As a function of the progress t, the sparsity rises cubically from 0 at `start` to `sparsity` at `end`:

    s(t) = sparsity · (1 − (1 − (t − start) / (end − start))³).

The mask changes at `updates` equally spaced times. After each of them, the floor(s n) smallest weights of every filter
are zero in the forward pass. Their raw values are kept and changed only by weight decay, so a weight can come back at
the next update. The fraction applies to every filter, as in this package's sweep (Zhu & Gupta: to every layer). Weights
that are zero at the end remain zero when the variant is detached.
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
    """Gradual magnitude pruning.

    Args:
        sparsity: the sparsity of every filter at the end, in [0, 1].
        start, end: the progress at which the sparsity starts and stops rising, in [0, 1].
        updates: the number of times that the mask changes.
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
        """Return the number of updates that are due at a training step."""
        progress = ((step + 1) / total - self.start) / (self.end - self.start)
        return min(self.updates, max(0, count(progress, self.updates)))

    def before_step(self, step: int, total: int) -> None:
        jump = self.jump(step, total)
        if jump and (step == 0 or jump != self.jump(step - 1, total)):
            sparsity = self.sparsity * (1 - (1 - jump / self.updates) ** 3)
            for name, mask in self.parametrizations().items():
                mask.update(self.raw_weight(self.layers[name]), sparsity)
