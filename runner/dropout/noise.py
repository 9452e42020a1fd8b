"""Random numbers in a tensor's shape and memory order, drawn flat: rand_like is 8 times slower on channels_last ones.

For tensors without gaps in memory, as weights and activations are.
"""

import torch
from torch import Tensor


def uniform_like(tensor: Tensor) -> Tensor:
    """Uniform in [0, 1), float32."""
    flat = torch.rand(tensor.numel(), device=tensor.device)
    return flat.as_strided(tensor.shape, tensor.stride())


def normal_like(tensor: Tensor) -> Tensor:
    """Standard normal, in the tensor's own precision."""
    flat = torch.randn(tensor.numel(), device=tensor.device).to(tensor.dtype)
    return flat.as_strided(tensor.shape, tensor.stride())
