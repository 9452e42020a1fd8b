"""Multilayer perceptrons."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from runner.models.blocks import scaled
from runner.models.places import chain, layers_in
from runner.parameters import CountsOrNone, Positive, checked


class MLP(nn.Module):
    """A multilayer perceptron without BatchNorm: Dense–ReLU for each width, then the logits.

    Widths 128, 64, 32 are the official code's `mnist_basic` (for-ai/TD). A single width of 10 is the paper's toy
    network in table 1. All layers except the logits are prunable, including the first; with `prune_logits`, all are.

    Args:
        channels, image_size, classes: properties of the data. Images are (N, channels, image_size, image_size).
        input_shape: shape of the inputs of one example, if they aren't images.
        widths: number of units of each hidden layer.
        width: factor for all widths.
    """

    minimum_size = 1

    @checked
    def __init__(
        self,
        channels: int = 1,
        image_size: int = 28,
        classes: int = 10,
        widths: CountsOrNone = (128, 64, 32),
        prune_logits: bool = False,
        width: Positive = 1.0,
        input_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.hidden = nn.Sequential()
        inputs = channels * image_size**2 if input_shape is None else math.prod(input_shape)
        for outputs in scaled(widths, width):
            self.hidden.extend([nn.Linear(inputs, outputs), nn.ReLU()])
            inputs = outputs
        self.logits = nn.Linear(inputs, classes)
        if prune_logits:
            self.prunable = [*layers_in(self.hidden, "hidden"), "logits"]
        self.feature_places = chain([*layers_in(self.hidden, "hidden"), "logits"], -1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)  # glorot_uniform, as in the official code
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, H, W), or inputs (N, …), to logits (N, classes)."""
        return self.logits(self.hidden(x.flatten(1)))
