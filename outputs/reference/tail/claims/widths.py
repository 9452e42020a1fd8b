"""ResNet-32 with its own number of inner channels in each block: model=module model.architecture=widths:Narrow."""

from torch import nn

from runner.models.resnet import ResNet


class Narrow(ResNet):
    """`runner.models.resnet.ResNet` whose block i has inner[i] channels between its two convolutions."""

    def __init__(self, channels: int, image_size: int, classes: int, inner: list[int]) -> None:
        super().__init__(channels, image_size, classes)
        for block, width in zip(self.blocks, inner, strict=True):
            first, second = block.conv1, block.conv2
            block.conv1 = nn.Conv2d(first.in_channels, width, 3, first.stride, 1, bias=False)
            block.norm1 = nn.BatchNorm2d(width)
            block.conv2 = nn.Conv2d(width, second.out_channels, 3, 1, 1, bias=False)
            for convolution in (block.conv1, block.conv2):
                nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
