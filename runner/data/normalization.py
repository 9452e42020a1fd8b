"""Normalise pixel values 0..255 per channel over the training set, per image as in the paper, or just to [0, 1]."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from runner.rules import choice

KINDS = ("channel", "image", "pixel")
Kind = Annotated[str, choice(*KINDS)]


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of pixels / 255, each (C,) float32, for uint8 images (N, H, W, C).

    They are computed from histograms and so do not depend on the summation order. The standard deviation is at least
    1 / 255.
    """
    pixels = images.reshape(-1, images.shape[-1])
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in pixels.unbind(1)]).double()
    values = torch.arange(256, device=images.device, dtype=torch.float64) / 255
    total = counts.sum(1)
    mean = (counts @ values) / total
    variance = (counts * (values - mean[:, None]).square()).sum(1) / total
    return mean.float(), variance.sqrt().clamp_min(1 / 255).float()


def normalize(kind: str, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise images in one of the ways listed in `KINDS`.

    Args:
        kind: "channel", "image" or "pixel".
        images: (N, H, W, C) with values 0..255, contiguous.
        mean, std: (C,), the statistics of pixels / 255; used only by "channel".

    Returns:
        (N, H, W, C) float32.
    """
    if kind == "image":
        return normalize_images(images)
    return normalize_channels(images, mean, std) if kind == "channel" else normalize_pixels(images)


def normalize_channels(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (pixels / 255 - mean) / std per channel in float32, for contiguous images (N, H, W, C) of 0..255."""
    count, height, width, channels = images.shape
    scale = 1 / (255 * std)
    # Repeat scale and shift over a whole row: broadcasting over the short channel dimension takes 6 times as long.
    rows = images.view(count, height, width * channels).to(torch.float32, copy=True)
    rows.mul_(scale.repeat(width)).add_((-mean / std).repeat(width))
    return rows.view(images.shape)


def normalize_images(images: Tensor) -> Tensor:
    """Normalise each image like TensorFlow's per_image_standardization.

    The result is (x - mean) / max(std, 1 / sqrt(n)) in float32, where x = pixels / 255 and n is the number of values
    per image, for contiguous images (N, H, W, C) of 0..255.
    """
    # Pixels remain in 0..255, which cancels in the ratio; only the lower bound has to be scaled.
    flat = images.flatten(1).to(torch.float32, copy=True)
    variance, mean = torch.var_mean(flat, 1, correction=0, keepdim=True)
    flat.sub_(mean).div_(variance.sqrt_().clamp_min_(255 * flat.shape[1] ** -0.5))
    return flat.view(images.shape)


def normalize_pixels(images: Tensor) -> Tensor:
    """Return pixels / 255 in float32, for images of 0..255."""
    return images.to(torch.float32, copy=True).div_(255)
