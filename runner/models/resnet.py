"""Residual networks for small images: the paper's pre-activation ResNet-32 and He et al.'s."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def _scaled(widths: Sequence[int], width: float) -> list[int]:
    return [max(1, round(w * width)) for w in widths]


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class PreActBlock(nn.Module):
    """BN–ReLU–conv3x3–BN–ReLU–conv3x3 plus shortcut; `projection`: a 1x1 convolution of the *activated* input."""

    def __init__(self, inputs: int, outputs: int, stride: int, projection: bool, momentum: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs, eps=1e-3, momentum=momentum)
        self.shortcut = _conv(inputs, outputs, 1, stride) if projection else None
        self.conv1 = _conv(inputs, outputs, 3, stride)
        self.norm2 = nn.BatchNorm2d(outputs, eps=1e-3, momentum=momentum)
        self.conv2 = _conv(outputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = self.conv1(y)
        return shortcut + self.conv2(F.relu(self.norm2(y)))


class PreActResNet(nn.Module):
    """The official code's ResNet for CIFAR (for-ai/TD, `resnet_default`), 6 * blocks + 2 layers.

    The first unit of every stage projects its shortcut. With widths 32/64/128 and 5 blocks: 1,849,344 prunable weights,
    1,857,498 parameters on CIFAR-10, which is four times He et al.'s; the paper's sparsity figures fit this one.

    Args:
        channels, image_size, classes: of the data; images (N, channels, image_size, image_size), at least 8 px.
        stem_width, widths: channels of the stem and of each stage.
        blocks: residual units a stage.
        stem_kernel: 7 in the code; 3 is taken for images under 16 px.
        width: multiplies all widths.
        batch_norm_momentum: weight of the newest batch in the running statistics.
    """

    minimum_size = 8

    def __init__(
        self,
        channels: int = 3,
        image_size: int = 32,
        classes: int = 10,
        stem_width: int = 16,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 5,
        stem_kernel: int = 7,
        width: float = 1.0,
        batch_norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        stem_width, *stages = _scaled([stem_width, *widths], width)
        self.stem = _conv(channels, stem_width, stem_kernel if image_size >= 16 else 3)
        self.blocks = nn.Sequential()
        inputs = stem_width
        for stage, outputs in enumerate(stages):
            for unit in range(blocks):
                stride = 2 if unit == 0 and stage > 0 else 1
                self.blocks.append(PreActBlock(inputs, outputs, stride, unit == 0, batch_norm_momentum))
                inputs = outputs
        self.norm = nn.BatchNorm2d(inputs, eps=1e-3, momentum=batch_norm_momentum)
        self.logits = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_normal_(module.weight)  # glorot_normal, as the official code
        nn.init.zeros_(self.logits.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) → logits (N, classes)."""
        x = F.relu(self.norm(self.blocks(self.stem(x))))
        return self.logits(x.mean((2, 3)))


class PostActBlock(nn.Module):
    """conv3x3–BN–ReLU–conv3x3–BN, plus shortcut, ReLU.

    Where the shape changes, the shortcut takes every second pixel and pads the missing channels with zeros on both
    sides (option A of He et al.), so it has no weights.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, momentum: float) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs, 3, stride)
        self.norm1 = nn.BatchNorm2d(outputs, momentum=momentum)
        self.conv2 = _conv(outputs, outputs, 3)
        self.norm2 = nn.BatchNorm2d(outputs, momentum=momentum)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        missing = y.shape[1] - x.shape[1]
        if missing:
            x = F.pad(x, (0, 0, 0, 0, missing // 2, missing - missing // 2))
        return F.relu(x + y)


class ResNet(nn.Module):
    """He et al. (2016), section 4.2: the CIFAR ResNet, 6 * blocks + 2 layers; ResNet-32 has 464,154 parameters.

    Args: as `PreActResNet`.
    """

    minimum_size = 8

    def __init__(
        self,
        channels: int = 3,
        image_size: int = 32,
        classes: int = 10,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 5,
        width: float = 1.0,
        batch_norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        stages = _scaled(widths, width)
        self.stem = _conv(channels, stages[0], 3)
        self.norm = nn.BatchNorm2d(stages[0], momentum=batch_norm_momentum)
        self.blocks = nn.Sequential()
        inputs = stages[0]
        for stage, outputs in enumerate(stages):
            for unit in range(blocks):
                stride = 2 if unit == 0 and stage > 0 else 1
                self.blocks.append(PostActBlock(inputs, outputs, stride, batch_norm_momentum))
                inputs = outputs
        self.logits = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) → logits (N, classes)."""
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.logits(x.mean((2, 3)))
