"""Tiny image sets, and files in the formats of the real sets."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from runner.data.images import ImageData, ImageSplit


def random_split(count: int, channels: int, size: int, classes: int, seed: int) -> ImageSplit:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    return ImageSplit(torch.from_numpy(images), torch.arange(count) % classes)


@pytest.fixture
def make_data() -> Callable[..., ImageData]:
    """Create ImageData of random images, with the given keyword arguments."""

    def make(count: int = 40, channels: int = 3, size: int = 6, classes: int = 4, **options: object) -> ImageData:
        train = random_split(count, channels, size, classes, seed=1)
        test = random_split(12, channels, size, classes, seed=2)
        names = [f"class {index}" for index in range(classes)]
        return ImageData(train, test, names, **{"crop": 0, "flip": False, "validation": 0, **options})  # type: ignore[arg-type]

    return make


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def write_idx() -> Callable[..., dict[str, np.ndarray]]:
    """Write the four files of an MNIST-like set into a folder, and return the arrays by file name."""

    def write(folder: Path, gz: bool = False, mark: str = "-") -> dict[str, np.ndarray]:
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(3)
        arrays = {}
        for part, count in (("train", 30), ("t10k", 20)):
            arrays[f"{part}-images"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            arrays[f"{part}-labels"] = np.arange(count, dtype=np.uint8) % 10
        for name, array in arrays.items():
            content = idx_bytes(array)
            path = folder / f"{name}{mark}idx{array.ndim}-ubyte"
            if gz:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
        return arrays

    return write
