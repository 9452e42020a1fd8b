"""Resize images from a data set's native size to a model's input size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fitted_size(native: int, minimum: int) -> int:
    """Return the smallest positive multiple of `native` that is at least `minimum`, in pixels."""
    return native * max(1, -(-minimum // native))


def resize(images: Tensor, size: int, nearest: bool) -> Tensor:
    """Resize images (N, S, S, C) to (N, size, size, C), contiguous.

    With `nearest`, pixels are repeated and the dtype is kept; `size` must be a multiple of S. Otherwise, interpolation
    is bilinear, in float32.
    """
    count, native, _, channels = images.shape
    if size == native:
        return images
    if nearest:
        factor = size // native
        repeated = images[:, :, None, :, None, :].expand(count, native, factor, native, factor, channels)
        return repeated.reshape(count, size, size, channels)
    resized = F.interpolate(images.permute(0, 3, 1, 2).float(), size=(size, size), mode="bilinear")
    return resized.permute(0, 2, 3, 1).contiguous()
