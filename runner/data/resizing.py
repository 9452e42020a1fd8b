"""From a data set's own image size to the one a model takes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fitted_size(native: int, minimum: int) -> int:
    """`native` pixels, or their smallest multiple that reaches `minimum`."""
    return native * max(1, -(-minimum // native))


def resize(images: Tensor, size: int, nearest: bool) -> Tensor:
    """(N, S, S, C) to (N, size, size, C), contiguous.

    `nearest` repeats pixels, needs a multiple of S and keeps the dtype; else bilinear, in float32.
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
