"""Batches of image files, read and augmented on demand by worker processes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from runner.data.errors import DataError, one_line
from runner.data.file_list import FileList
from runner.data.image_file import eight_bits
from runner.data.torchvision_import import import_torchvision

Transform = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Request:
    """A request for one batch: file indices, and their augmentation seeds or None for no augmentation."""

    indices: list[int]
    seeds: list[int] | None = None


class BatchReader(Dataset[Any]):
    """A data set indexed by requests: it reads a batch of pixels (n, size, size, 3) uint8 and labels (n,) int64.

    All randomness is part of the request, so that batches do not depend on the number of workers or on which of them
    reads a batch. For an unreadable file, a DataError is *returned*, because an error raised in a worker would carry
    that process's traceback.
    """

    def __init__(self, files: FileList, size: int) -> None:
        self.files, self.size = files, size
        transforms(size)  # import before workers are forked, so that they need not

    def __getitem__(self, request: Request) -> tuple[Tensor, Tensor] | DataError:
        augment, center = transforms(self.size)
        try:
            images = [read_rgb(self.files.path(index)) for index in request.indices]
        except DataError as error:
            return error
        if request.seeds is None:
            squares = [center(image) for image in images]
        else:
            squares = [seeded(augment, image, seed) for image, seed in zip(images, request.seeds, strict=True)]
        pixels = np.stack([np.asarray(square) for square in squares])
        return torch.from_numpy(pixels), self.files.labels[request.indices]


@cache
def transforms(size: int) -> tuple[Transform, Transform]:
    """Return the two usual transforms for ImageNet, which produce images of `size` x `size` pixels.

    The first is augmentation, a random crop of 8 % to 100 % of the image's area, flipped with probability 1/2. The
    second is a center crop of 7/8 of the shorter side, e.g. 224 of 256 pixels.
    """
    import_torchvision()
    v2 = importlib.import_module("torchvision.transforms.v2")
    augment = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()])
    return augment, v2.Compose([v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size)])


def seeded(transform: Transform, image: Image.Image, seed: int) -> Image.Image:
    """Apply a transform with the given seed, without changing the state of torch's generators."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also seed every GPU.
        torch.default_generator.manual_seed(seed)
        return transform(image)


def read_rgb(path: Path) -> Image.Image:
    """Return the image in RGB. As in torchvision, the EXIF orientation is ignored.

    Raises:
        DataError: the file cannot be read. The message names it.
    """
    try:
        with Image.open(path) as opened:
            return eight_bits(opened).convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} can't be read as an image: {one_line(error)}") from error


def stream(
    reader: BatchReader, requests: Iterable[Request], workers: int, pin_memory: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the requested batches in order, prefetched by `workers` processes (0: this process reads on demand).

    Closing the iterator ends the processes. Raises a DataError for an unreadable file.
    """
    loader = DataLoader(
        reader,
        batch_size=None,  # a request already is a batch
        sampler=requests,
        num_workers=workers,
        collate_fn=as_it_is,
        pin_memory=pin_memory,
        # Otherwise each start draws from torch's global generator, and dropout would depend on when reading started.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        pixels, labels = batch
        yield pixels, labels


def as_it_is(batch: object) -> object:
    return batch
