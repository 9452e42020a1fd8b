"""Small tensors on their way from the processor to a GPU, at every step."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device. A GPU gets it in the background: a plain copy waits for all that the GPU has to do."""
    if device.type in ("cpu", "mps"):
        return tensor.to(device)
    if device.type == "cuda":  # only such memory is copied in the background
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
