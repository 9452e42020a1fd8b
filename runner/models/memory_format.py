"""Conversion of networks to the memory format that is fastest for training.

channels_last is the layout in which convolutions are fast, on CPUs and GPUs. One of its kernels is broken: on x86
processors, oneDNN's AVX2 kernel for the float32 weight gradient of a 1x1 convolution with a stride writes beyond its
buffers if the input has fewer than 8 channels and either the input or the weight is channels_last. The result is
"free(): invalid pointer", "corrupted size vs. prev_size", a segmentation fault, or silently wrong numbers. This was
seen in torch 2.13.0 and 2.14.1; older versions were not tried. A processor with AVX-512 uses the kernel under
ONEDNN_MAX_CPU_ISA=AVX2.

This package's own networks avoid the kernel in every layout; see `runner.models.blocks.PointwiseConv2d`. In other
networks, the layers that would use it are kept in contiguous format, for which another kernel is chosen.
"""

from typing import Any

import torch
from torch import nn

from runner.models.blocks import PointwiseConv2d


def use_fast_memory_format(model: nn.Module) -> nn.Module:
    """Convert the model to channels_last, in place, except for the layers returned by `unsafe_in_channels_last`.

    These layers get contiguous weights and a forward pre-hook that makes their input contiguous.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stubs
    for layer in unsafe_in_channels_last(model):
        layer.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        layer.register_forward_pre_hook(_contiguous)
    return model


def unsafe_in_channels_last(model: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions whose weight gradient may corrupt memory.

    These are the 1x1 convolutions with a stride and fewer than 8 input channels. For grouped convolutions, the input
    channels per group count, although no error was seen with these.
    """
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
        and not isinstance(module, PointwiseConv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels // module.groups < 8
    ]


def _contiguous(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.contiguous() if isinstance(x, torch.Tensor) else x for x in inputs)
