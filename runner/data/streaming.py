"""Batches of image files, read and augmented by worker processes as they are needed."""

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
    """One batch: which files, and the seed of each one's augmentation; without seeds, none is augmented."""

    indices: list[int]
    seeds: list[int] | None = None


class BatchReader(Dataset[Any]):
    """Turns a request into pixels (n, size, size, 3) uint8 and labels (n,) int64, in whatever process.

    All randomness comes with the request, so it doesn't matter which worker reads what, or how many there are.
    An unreadable file makes a DataError the *result*: raised in a worker, it would come with that process's traceback.
    """

    def __init__(self, files: FileList, size: int) -> None:
        self.files, self.size = files, size
        transforms(size)  # imported before workers are forked, so that not each of them has to

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
    """The usual two for ImageNet: a random crop of 8 % to all of the image, mirrored half of the time; and its center.

    The center is 7/8 of the shorter side: 224 of 256 px.
    """
    import_torchvision()
    v2 = importlib.import_module("torchvision.transforms.v2")
    augment = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()])
    return augment, v2.Compose([v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size)])


def seeded(transform: Transform, image: Image.Image, seed: int) -> Image.Image:
    """The transform with random numbers of its own; torch's generators are left as they were."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which also seeds every GPU.
        torch.default_generator.manual_seed(seed)
        return transform(image)


def read_rgb(path: Path) -> Image.Image:
    """The image in RGB; as in torchvision, a photograph is not turned upright. DataError, naming an unreadable file."""
    try:
        with Image.open(path) as opened:
            return eight_bits(opened).convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} can't be read as an image: {one_line(error)}") from error


def stream(
    reader: BatchReader, requests: Iterable[Request], workers: int, pin_memory: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """The requests' batches, in their order, read ahead by `workers` processes (0: by this one, when asked for).

    Closing the iterator ends the processes. DataError for an unreadable file.
    """
    loader = DataLoader(
        reader,
        batch_size=None,  # a request is a batch already
        sampler=requests,
        num_workers=workers,
        collate_fn=as_it_is,
        pin_memory=pin_memory,
        # Else each start draws from torch's own generator, and dropout would depend on when reading was started.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        pixels, labels = batch
        yield pixels, labels


def as_it_is(batch: object) -> object:
    return batch
