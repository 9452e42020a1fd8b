"""Residual blocks and other building blocks of image networks."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from runner.errors import ParameterError


def scaled(widths: Sequence[int], width: float) -> list[int]:
    """Return all widths multiplied by `width`, rounded and at least 1."""
    return [max(1, round(w * width)) for w in widths]


class PointwiseConv2d(nn.Conv2d):
    """A strided 1x1 convolution, computed with stride 1 on the pixels that it reads.

    Parameters, their initialisation and the output are those of `nn.Conv2d`, up to rounding. It avoids a kernel that
    corrupts memory; see `runner.models.memory_format`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, stride, bias=bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        vertical, horizontal = self.stride
        return F.conv2d(input[..., ::vertical, ::horizontal], weight, bias)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size of the image, or divides it by the stride."""
    if kernel == 1 and stride > 1:
        return PointwiseConv2d(inputs, outputs, stride, bias=False)
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def check_one_for_each(parameter: str, counts: Sequence[int], widths: Sequence[int]) -> None:
    """Raise a ParameterError unless there is one count per width."""
    if len(counts) != len(widths):
        raise ParameterError(parameter, list(counts), f"one number for each of the {len(widths)} widths")


def projection(inputs: int, outputs: int, stride: int, momentum: float) -> nn.Sequential:
    """Return a projection shortcut, conv1x1–BN (option B of He et al.)."""
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs, momentum=momentum))


class PaddedShortcut(nn.Module):
    """A parameter-free shortcut (option A): every `stride`-th pixel, with zero channels added on both sides."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.missing, self.stride = outputs - inputs, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.missing:
            x = F.pad(x, (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2))
        return x


class BasicBlock(nn.Module):
    """A residual block: conv3x3–BN–ReLU–conv3x3–BN, plus the shortcut, then ReLU (He et al. 2016a)."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: nn.Module, momentum: float) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.norm1 = nn.BatchNorm2d(outputs, momentum=momentum)
        self.conv2 = conv(outputs, outputs, 3)
        self.norm2 = nn.BatchNorm2d(outputs, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(self.shortcut(x) + y)


class Bottleneck(nn.Module):
    """A bottleneck block: conv1x1–BN–ReLU–conv3x3–BN–ReLU–conv1x1–BN, plus the shortcut, then ReLU.

    The last convolution outputs 4 times as many channels as the others. The stride is in the 3x3 convolution, as
    in torchvision (He et al.: in the first 1x1); the number of weights is the same.
    """

    expansion = 4

    def __init__(self, inputs: int, inner: int, stride: int, shortcut: nn.Module, momentum: float) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.conv1 = conv(inputs, inner, 1)
        self.norm1 = nn.BatchNorm2d(inner, momentum=momentum)
        self.conv2 = conv(inner, inner, 3, stride)
        self.norm2 = nn.BatchNorm2d(inner, momentum=momentum)
        self.conv3 = conv(inner, self.expansion * inner, 1)
        self.norm3 = nn.BatchNorm2d(self.expansion * inner, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(self.shortcut(x) + self.norm3(self.conv3(y)))


class PreActBlock(nn.Module):
    """A pre-activation residual block: BN–ReLU–conv3x3–BN–ReLU–conv3x3, plus the shortcut (He et al. 2016b).

    Args:
        shortcut: applied to the *activated* input; None means the input itself.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, shortcut: nn.Module | None, momentum: float, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs, eps=eps, momentum=momentum)
        self.shortcut = shortcut
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.norm2 = nn.BatchNorm2d(outputs, eps=eps, momentum=momentum)
        self.conv2 = conv(outputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = self.conv1(y)
        return shortcut + self.conv2(F.relu(self.norm2(y)))
