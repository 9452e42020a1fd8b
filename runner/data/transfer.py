"""Copies of small tensors from the CPU to the device, as needed at every step."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device, asynchronously except on the CPU and on Apple's GPUs (mps).

    A blocking copy would wait for all work queued on the device.
    """
    if device.type in ("cpu", "mps"):
        return tensor.to(device)
    if device.type == "cuda":  # only pinned memory is copied asynchronously
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
