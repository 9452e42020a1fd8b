"""Residual networks for small images.

These are the pre-activation ResNet-32 of the targeted dropout paper, and the original CIFAR ResNet of He et al. (2016).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from runner.models.blocks import BasicBlock, PaddedShortcut, PreActBlock, conv, scaled
from runner.models.places import inside_blocks
from runner.parameters import Count, Counts, Fraction, Positive, checked


class PreActResNet(nn.Module):
    """The official code's ResNet for CIFAR (for-ai/TD, `resnet_default`), with 6 * blocks + 2 layers.

    The first unit of every stage projects its shortcut, without BN. With widths 32/64/128 and 5 blocks, there are
    1,849,344 prunable weights and 1,857,498 parameters on CIFAR-10, four times as many as in He et al.'s network. The
    paper's sparsity figures match this network.

    Args:
        channels, image_size, classes: properties of the data. Images are (N, channels, image_size, image_size), at
            least 8 px.
        stem_width, widths: channels of the stem and of each stage.
        blocks: residual units per stage.
        stem_kernel: kernel size of the stem, 7 in the official code; images under 16 px always use 3.
        width: factor for all widths.
        batch_norm_momentum: weight of the newest batch in the running statistics.
    """

    minimum_size = 8

    @checked
    def __init__(
        self,
        channels: int = 3,
        image_size: int = 32,
        classes: int = 10,
        stem_width: Count = 16,
        widths: Counts = (32, 64, 128),
        blocks: Count = 5,
        stem_kernel: Count = 7,
        width: Positive = 1.0,
        batch_norm_momentum: Fraction = 0.1,
    ) -> None:
        super().__init__()
        stem_width, *stages = scaled([stem_width, *widths], width)
        self.stem = conv(channels, stem_width, stem_kernel if image_size >= 16 else 3)
        self.blocks = nn.Sequential()
        inputs = stem_width
        for stage, outputs in enumerate(stages):
            for unit in range(blocks):
                stride = 2 if unit == 0 and stage > 0 else 1
                shortcut = conv(inputs, outputs, 1, stride) if unit == 0 else None
                self.blocks.append(PreActBlock(inputs, outputs, stride, shortcut, batch_norm_momentum, eps=1e-3))
                inputs = outputs
        self.norm = nn.BatchNorm2d(inputs, eps=1e-3, momentum=batch_norm_momentum)
        self.logits = nn.Linear(inputs, classes)
        self.feature_places = inside_blocks(self.blocks, "blocks")
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_normal_(module.weight)  # glorot_normal, as in the official code
        nn.init.zeros_(self.logits.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, H, W) to logits (N, classes)."""
        x = F.relu(self.norm(self.blocks(self.stem(x))))
        return self.logits(x.mean((2, 3)))


class ResNet(nn.Module):
    """The CIFAR ResNet of He et al. (2016), section 4.2, with 6 * blocks + 2 layers; ResNet-32 has 464,154 parameters.

    Where the shape changes, the shortcut is option A, which has no weights.

    The arguments are those of `PreActResNet` without `stem_width` and `stem_kernel`; the stem is as wide as the first
    stage.
    """

    minimum_size = 8

    @checked
    def __init__(
        self,
        channels: int = 3,
        image_size: int = 32,
        classes: int = 10,
        widths: Counts = (16, 32, 64),
        blocks: Count = 5,
        width: Positive = 1.0,
        batch_norm_momentum: Fraction = 0.1,
    ) -> None:
        super().__init__()
        stages = scaled(widths, width)
        self.stem = conv(channels, stages[0], 3)
        self.norm = nn.BatchNorm2d(stages[0], momentum=batch_norm_momentum)
        self.blocks = nn.Sequential()
        inputs = stages[0]
        for stage, outputs in enumerate(stages):
            for unit in range(blocks):
                stride = 2 if unit == 0 and stage > 0 else 1
                shortcut = PaddedShortcut(inputs, outputs, stride)
                self.blocks.append(BasicBlock(inputs, outputs, stride, shortcut, batch_norm_momentum))
                inputs = outputs
        self.logits = nn.Linear(inputs, classes)
        self.feature_places = inside_blocks(self.blocks, "blocks")
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, H, W) to logits (N, classes)."""
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.logits(x.mean((2, 3)))
