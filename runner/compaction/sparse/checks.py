"""Checks of the kernels' input tensors."""

import torch
from torch import Tensor


def fits(x: Tensor) -> bool:
    """Return whether a tensor is float32 and on the CPU."""
    return x.dtype == torch.float32 and x.is_cpu


def kind(x: Tensor) -> str:
    """Return a tensor's shape, dtype and device as text for an error message."""
    return f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')} on the {x.device.type}"
