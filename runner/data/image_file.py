"""Read image files in common formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from runner.data.errors import DataError, one_line

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"))
GRAYSCALE = frozenset(("1", "L", "LA", "La"))


def read_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Read an image and stretch it to a square: (size, size) uint8 if it is grayscale, else (size, size, 3) RGB.

    The image is first rotated according to its EXIF orientation.

    Raises:
        DataError: the file cannot be read, is truncated, or has 32-bit pixels.
    """
    try:
        with Image.open(path) as opened:
            image = eight_bits(ImageOps.exif_transpose(opened))
        image = image.convert("L" if image.mode in GRAYSCALE else "RGB")
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} can't be read as an image: {one_line(error)}") from error


def eight_bits(image: Image.Image) -> Image.Image:
    """Convert a 16-bit grayscale image to 8 bits; images of 8 bits are returned unchanged.

    Pillow would clip at 255, which makes most pixels white.

    Raises:
        ValueError: the pixels are 32-bit integers or floats.
    """
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of Pillow's mode {image.mode}")
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image
