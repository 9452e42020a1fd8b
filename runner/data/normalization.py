"""Pixels 0..255 to what a network sees: by channel over the training set, by image as in the paper, or only scaled."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from runner.rules import choice

KINDS = ("channel", "image", "pixel")
Kind = Annotated[str, choice(*KINDS)]


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of pixels / 255, each (C,) float32, of uint8 images (N, H, W, C).

    Counted from histograms, so exact and independent of how a sum is ordered. The deviation is at least 1 / 255.
    """
    pixels = images.reshape(-1, images.shape[-1])
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in pixels.unbind(1)]).double()
    values = torch.arange(256, device=images.device, dtype=torch.float64) / 255
    total = counts.sum(1)
    mean = (counts @ values) / total
    variance = (counts * (values - mean[:, None]).square()).sum(1) / total
    return mean.float(), variance.sqrt().clamp_min(1 / 255).float()


def normalize(kind: str, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Images (N, H, W, C) of 0..255, contiguous, normalised in one of KINDS; the result is float32.

    mean, std: (C,) of pixels / 255, for "channel".
    """
    if kind == "image":
        return normalize_images(images)
    return normalize_channels(images, mean, std) if kind == "channel" else normalize_pixels(images)


def normalize_channels(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(pixels / 255 - mean) / std by channel; images (N, H, W, C) of 0..255, contiguous; the result is float32."""
    count, height, width, channels = images.shape
    scale = 1 / (255 * std)
    # Scale and shift are spread over a whole row: a broadcast over the short channel dimension takes 6 times as long.
    rows = images.view(count, height, width * channels).to(torch.float32, copy=True)
    rows.mul_(scale.repeat(width)).add_((-mean / std).repeat(width))
    return rows.view(images.shape)


def normalize_images(images: Tensor) -> Tensor:
    """TensorFlow's per_image_standardization: (x - mean) / max(std, 1 / sqrt(n)), x = pixels / 255, n values an image.

    images (N, H, W, C) of 0..255, contiguous; the result is float32.
    """
    # Pixels stay in 0..255, which the ratio does not see; only the lower bound is scaled with them.
    flat = images.flatten(1).to(torch.float32, copy=True)
    variance, mean = torch.var_mean(flat, 1, correction=0, keepdim=True)
    flat.sub_(mean).div_(variance.sqrt_().clamp_min_(255 * flat.shape[1] ** -0.5))
    return flat.view(images.shape)


def normalize_pixels(images: Tensor) -> Tensor:
    """pixels / 255, in [0, 1]; images of 0..255, the result is float32."""
    return images.to(torch.float32, copy=True).div_(255)
