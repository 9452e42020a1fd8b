"""What tensors the kernels read."""

import torch
from torch import Tensor


def fits(x: Tensor) -> bool:
    """Whether it is float32 on the processor."""
    return x.dtype == torch.float32 and x.is_cpu


def kind(x: Tensor) -> str:
    """Shape, type and device, for an error."""
    return f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')} on the {x.device.type}"
