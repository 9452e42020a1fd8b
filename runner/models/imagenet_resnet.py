"""Residual networks with four stages: ResNet-101 and ResNet-102 for ImageNet, and ResNet-18 for small images."""

from typing import Annotated

from torch import Tensor, nn

from runner.models.blocks import (
    BasicBlock,
    Bottleneck,
    PreActBlock,
    check_one_for_each,
    conv,
    projection,
    scaled,
)
from runner.models.places import inside_blocks
from runner.parameters import Counts, Fraction, Positive, checked
from runner.rules import choice

BLOCKS = ("basic", "bottleneck", "preactivation")


class ImageNetResNet(nn.Module):
    """A residual network for ImageNet: conv7x7/2–BN–ReLU–pool3x3/2, four stages of residual blocks, mean, logits.

    The stages have 1/4, 1/8, 1/16 and 1/32 of the image's size.

    Blocks:
        bottleneck: with stages 3, 4, 23, 3, this is torchvision's ResNet-101 (44,549,160 parameters with 1000 classes),
            which is also what the paper's official code calls `resnet102_imagenet224`.
        basic: ResNet-18 with stages 2, 2, 2, 2, ResNet-34 with 3, 4, 6, 3.
        preactivation: tensor2tensor's "residual" block. With stages 3, 8, 36, 3, this is its `resnet_imagenet_102`,
            which does have 102 layers (58,402,856 parameters). As in tensor2tensor, the first block of *every* stage
            projects its activated input, with BN, and there is no BN–ReLU between the last block and the mean.

    Args:
        channels, image_size, classes: properties of the data. Images are (N, channels, image_size, image_size), at
            least 32 px.
        block: one of the above.
        stages: residual blocks per stage.
        widths: channels per stage (the inner channels of a bottleneck, which outputs 4 times as many); the stem has the
            same number as the first stage.
        width: factor for all widths.
        batch_norm_momentum: weight of the newest batch in the running statistics.
    """

    minimum_size = 32  # the last stage then sees one pixel

    @checked
    def __init__(
        self,
        channels: int = 3,
        image_size: int = 224,
        classes: int = 1000,
        block: Annotated[str, choice(*BLOCKS)] = "bottleneck",
        stages: Counts = (3, 4, 23, 3),
        widths: Counts = (64, 128, 256, 512),
        width: Positive = 1.0,
        batch_norm_momentum: Fraction = 0.1,
    ) -> None:
        super().__init__()
        check_one_for_each("stages", stages, widths)
        widths = scaled(widths, width)
        self.stem = self._stem(channels, widths[0], batch_norm_momentum)
        self.blocks = nn.Sequential()
        inputs = widths[0]
        for stage, (inner, count) in enumerate(zip(widths, stages, strict=True)):
            for unit in range(count):
                stride = 2 if unit == 0 and stage > 0 else 1
                self.blocks.append(_block(block, inputs, inner, stride, unit == 0, batch_norm_momentum))
                inputs = inner * Bottleneck.expansion if block == "bottleneck" else inner
        self.logits = nn.Linear(inputs, classes)
        self.feature_places = inside_blocks(self.blocks, "blocks")
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _stem(self, channels: int, outputs: int, momentum: float) -> nn.Sequential:
        norm = nn.BatchNorm2d(outputs, momentum=momentum)
        return nn.Sequential(conv(channels, outputs, 7, 2), norm, nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, H, W) to logits (N, classes)."""
        x = self.blocks(self.stem(x))
        return self.logits(x.mean((2, 3)))


class SmallImageResNet(ImageNetResNet):
    """`ImageNetResNet` for small images, as in kuangliu/pytorch-cifar, with a conv3x3–BN–ReLU stem.

    The stem has no stride and no pooling. With basic blocks and stages 2, 2, 2, 2, this is its ResNet-18, which has
    11,173,962 parameters with ten classes. The paper's Xtreme dropout was tried on this network.

    Args: as in `ImageNetResNet`, except that images have at least 8 px.
    """

    minimum_size = 8

    def _stem(self, channels: int, outputs: int, momentum: float) -> nn.Sequential:
        return nn.Sequential(conv(channels, outputs, 3), nn.BatchNorm2d(outputs, momentum=momentum), nn.ReLU())


def _block(kind: str, inputs: int, inner: int, stride: int, first: bool, momentum: float) -> nn.Module:
    """Return a residual block; `first` says whether it is the first of its stage."""
    if kind == "preactivation":
        shortcut = projection(inputs, inner, stride, momentum) if first else None
        return PreActBlock(inputs, inner, stride, shortcut, momentum)
    make = Bottleneck if kind == "bottleneck" else BasicBlock
    outputs = inner * Bottleneck.expansion if kind == "bottleneck" else inner
    changes = stride > 1 or inputs != outputs
    return make(
        inputs, inner, stride, projection(inputs, outputs, stride, momentum) if changes else nn.Identity(), momentum
    )
