"""Random images with the shape of a real data set, because speed does not depend on image content."""

import torch

from runner.data.images import ImageSplit

CHANNELS = 3
CLASSES = tuple("0123456789")


def random_split(examples: int, size: int, seed: int) -> ImageSplit:
    """Return random images (examples, 3, size, size) uint8 with labels from ten classes."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (examples, CHANNELS, size, size), dtype=torch.uint8, generator=generator)
    return ImageSplit(pixels, torch.arange(examples) % len(CLASSES))
