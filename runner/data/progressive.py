"""Progressive resizing: training on smaller images first, which takes less time per step."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from runner.interfaces import TrainBatches


class ProgressiveBatches:
    """Training batches whose images grow during training (progressive resizing; Howard, 2018, for DAWNBench).

    The steps are divided into as many equal phases as there are sizes. The batch of a step is still determined by the
    seed and the step alone, so training can be resumed at any step.

    Args:
        batches: the batches at full size, pairs of images (N, C, S, S) and labels.
        sizes: size of the images in each phase as a fraction of S, each above 0 and at most 1; the last is 1.
        steps: total number of training steps.
    """

    def __init__(self, batches: TrainBatches[tuple[Tensor, Tensor]], sizes: Sequence[float], steps: int) -> None:
        self._batches, self._sizes, self._steps = batches, tuple(sizes), steps
        self.steps_per_epoch = batches.steps_per_epoch
        self.examples_per_step = batches.examples_per_step

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images (N, C, S', S') and labels (N,), where S' is the size of the step's phase."""
        images, labels = self._batches.batch(step)
        phase = min(step * len(self._sizes) // max(1, self._steps), len(self._sizes) - 1)
        return shrink(images, self._sizes[phase]), labels


def shrink(images: Tensor, fraction: float) -> Tensor:
    """Resize images (N, C, S, S) to a fraction of their size (at least one pixel), bilinearly and with antialiasing."""
    size = max(1, round(fraction * images.shape[-1]))
    if size == images.shape[-1]:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
