"""Copy small tensors from the CPU to a GPU at every step."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device, asynchronously if it is a GPU. A plain copy would wait for all work queued there."""
    if device.type in ("cpu", "mps"):
        return tensor.to(device)
    if device.type == "cuda":  # only pinned memory is copied asynchronously
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
