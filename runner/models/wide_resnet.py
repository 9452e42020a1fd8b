"""Wide residual networks for small images."""

from typing import Annotated, Any

import torch.nn.functional as F
from torch import Tensor, nn

from runner.models.blocks import PreActBlock, conv, scaled
from runner.models.places import inside_blocks
from runner.parameters import Count, Fraction, Positive, checked
from runner.rules import whole


def _depth(value: Any) -> str | None:
    fits = whole(10)(value) is None and value % 6 == 4
    return None if fits else "10, 16, 22, 28 and so on, 6 more each time"


class WideResNet(nn.Module):
    """WRN-depth-widen (Zagoruyko & Komodakis, 2016); WRN-28-10 has 36,479,194 parameters with ten classes.

    The network has three stages of pre-activation blocks. Where the shape changes, the shortcut projects the activated
    input, without BN. The optional dropout between a block's convolutions is omitted, because `dropout=` serves that
    purpose. The paper's table 4 adapts Louizos et al.'s code, whose stride is in a block's second convolution; the
    number of weights is the same.

    Args:
        channels, image_size, classes: properties of the data. Images are (N, channels, image_size, image_size), at
            least 8 px.
        depth: 6 n + 4 layers, for n blocks per stage.
        widen: the stages have 16, 32 and 64 times this many channels.
        width: factor for all widths, including the stem's 16.
        batch_norm_momentum: weight of the newest batch in the running statistics.
    """

    minimum_size = 8

    @checked
    def __init__(
        self,
        channels: int = 3,
        image_size: int = 32,
        classes: int = 10,
        depth: Annotated[int, _depth] = 28,
        widen: Count = 10,
        width: Positive = 1.0,
        batch_norm_momentum: Fraction = 0.1,
    ) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        stem_width, *stages = scaled([16, 16 * widen, 32 * widen, 64 * widen], width)
        self.stem = conv(channels, stem_width, 3)
        self.blocks = nn.Sequential()
        inputs = stem_width
        for stage, outputs in enumerate(stages):
            for unit in range(blocks):
                stride = 2 if unit == 0 and stage > 0 else 1
                changes = stride > 1 or inputs != outputs
                shortcut = conv(inputs, outputs, 1, stride) if changes else None
                self.blocks.append(PreActBlock(inputs, outputs, stride, shortcut, batch_norm_momentum))
                inputs = outputs
        self.norm = nn.BatchNorm2d(inputs, momentum=batch_norm_momentum)
        self.logits = nn.Linear(inputs, classes)
        self.feature_places = inside_blocks(self.blocks, "blocks")
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, H, W) to logits (N, classes)."""
        x = F.relu(self.norm(self.blocks(self.stem(x))))
        return self.logits(x.mean((2, 3)))
