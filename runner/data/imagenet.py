"""ImageNet, or another large image set with the same layout, streamed from disk."""

from __future__ import annotations

import hashlib
import itertools
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import torch
from torch import Tensor

from runner import rules
from runner.cores import cores
from runner.data import normalization
from runner.data.errors import DataError, one_line
from runner.data.file_list import FileList, list_files
from runner.data.image_folder import class_folders
from runner.data.splits import Splits, epoch_order
from runner.data.splitting import check_fraction, stratified_fraction
from runner.data.streaming import BatchReader, Request, stream
from runner.parameters import BelowOne, Count, checked, whole
from runner.seeding import derive_seed

# Statistics of the training images' pixels / 255 by channel, the constants commonly used for ImageNet.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

MOST_WORKERS = 16


class ImageNet(Splits):
    """RGB images from `root/train/<class>/` and `root/val/<class>/`, cropped to `size` x `size` pixels.

    `val` is the test split. The validation split is a stratified fraction `validation`, in [0, 1), of the training set
    and is the same for every seed. Training images are random crops, flipped with probability 1/2; other images are
    center crops (see `streaming.transforms`). Each split has a fixed random order, so that its first images cover all
    classes.

    Images are prefetched by `workers` processes. None means one per core, at most 16. The batches do not depend on
    `workers`.
    """

    kind = "images"
    examples = "images"
    train: FileList
    validation: FileList
    test: FileList
    class_names: tuple[str, ...]

    @checked
    def __init__(
        self,
        root: str | Path,
        validation: BelowOne = 0.01,
        size: Count = 224,
        workers: Annotated[int | None, rules.either(None, rules.whole(0))] = None,
        normalize: normalization.Kind = "channel",
    ) -> None:
        """List the files of all splits. Images are read only when batches are requested.

        Raises:
            DataError: the folders do not have this layout.
            ParameterError: another value is invalid.
        """
        self.root = root
        self.train, self.validation, self.test, self.class_names = splits_in(root, validation)
        self.size = self.image_size = size
        self.workers = min(cores(), MOST_WORKERS) if workers is None else workers
        self.normalize = normalize
        self.device = torch.device("cpu")
        self.mean, self.std = torch.tensor(MEAN), torch.tensor(STD)

    @staticmethod
    def fingerprint(root: str | Path, **_: object) -> str:
        """Return a hash of the names and sizes of all image files. Hashing their contents would take too long."""
        digest = hashlib.sha256()
        for files in files_in(root)[:2]:
            digest.update(files.folder.name.encode())
            for index, name in enumerate(files.names):
                digest.update(b"%s\0%d\n" % (name, files.path(index).stat().st_size))
        return digest.hexdigest()

    def fit(self, minimum: int, input_size: int | None = None) -> None:
        """Set the image size of future batches to `input_size` if given, else to the larger of `size` and `minimum`."""
        if input_size is not None:
            whole("input_size", input_size, of="pixels")
        self.image_size = max(self.size, minimum) if input_size is None else input_size

    def model_arguments(self) -> dict[str, int]:
        """Return the model arguments that depend on the data: `channels`, `image_size` in pixels and `classes`."""
        return {"channels": 3, "image_size": self.image_size, "classes": len(self.class_names)}

    def to(self, device: torch.device | str) -> Self:
        """Set the device of all future batches."""
        self.device = torch.device(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self

    def train_batches(self, batch_size: int, seed: int) -> StreamedBatches:
        """Return an endless sequence of augmented training batches, in an order determined by `seed`."""
        return StreamedBatches(self, batch_size, seed)

    def eval_batches(
        self, split: str, limit: int | None = None, batch_size: int = 100
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of the first `limit` images of a split (all if None), in a fixed order, not augmented.

        Yields x (n, 3, S, S) float32, channels_last, and y (n,) int64. Raises a ValueError if the split is empty.
        """
        files: FileList = self.examples_of(split)
        return self.batches(files, map(Request, _in_order(len(files), limit, batch_size)))

    def augmented_batches(self, limit: int, seed: int, batch_size: int = 100) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images of `eval_batches("train", limit)` with training augmentation, determined by `seed`."""
        chosen = _in_order(len(self.train), limit, batch_size)
        requests = (Request(part, [derive_seed(seed, "recalibration", index) for index in part]) for part in chosen)
        return self.batches(self.train, requests)

    def batches(self, files: FileList, requests: Iterator[Request]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the requested batches of network inputs and labels, on the device."""
        pinned = self.device.type == "cuda"
        try:
            for pixels, labels in stream(BatchReader(files, self.image_size), requests, self.workers, pinned):
                pixels = pixels.to(self.device, non_blocking=True)
                yield self.prepare(pixels), labels.to(self.device, non_blocking=True)
        except DataError as error:
            raise DataError(str(error), "root", self.root) from error

    def prepare(self, pixels: Tensor) -> Tensor:
        """Convert pixels (n, S, S, 3) uint8 to network inputs (n, 3, S, S) float32, channels_last."""
        return normalization.normalize(self.normalize, pixels, self.mean, self.std).permute(0, 3, 1, 2)


def _in_order(images: int, limit: int | None, batch_size: int) -> Iterator[list[int]]:
    """Yield the indices of each batch of the first `limit` images."""
    count = images if limit is None else min(limit, images)
    for start in range(0, count, batch_size):
        yield [*range(start, min(start + batch_size, count))]


class StreamedBatches:
    """Training batches as a function of the step number, so that a run can be resumed at any step.

    Batches after the last requested step are prefetched; requesting any step but the next restarts the prefetching.
    Each epoch has its own order. An incomplete last batch is dropped, but a set smaller than a batch is one batch.
    """

    steps_per_epoch: int
    examples_per_step: int

    def __init__(self, data: ImageNet, batch_size: int, seed: int) -> None:
        whole("batch_size", batch_size, of="images")
        self._data, self._batch_size, self._seed = data, batch_size, seed
        self.steps_per_epoch = max(1, len(data.train) // batch_size)
        self.examples_per_step = batch_size
        self._next: int | None = None  # the step whose batch the prefetching yields next
        self._ahead: list[Iterator[tuple[Tensor, Tensor]]] = []  # one, or none before the first step
        # Do not leave this to the garbage collector. If these batches are part of a reference cycle, it may close the
        # queues of the worker processes before these are told to end, and waiting for each of them times out.
        weakref.finalize(self, self._ahead.clear)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return x (n, 3, S, S) float32, channels_last, and y (n,) int64, as a pure function of seed and step >= 0."""
        if step != self._next:
            self._ahead.clear()
            requests = training_requests(self._seed, len(self._data.train), self._batch_size, step)
            self._ahead.append(self._data.batches(self._data.train, requests))
        self._next = None  # if reading fails, start again
        batch = next(self._ahead[0])
        self._next = step + 1
        return batch


def training_requests(seed: int, images: int, batch_size: int, step: int) -> Iterator[Request]:
    """Yield the requests for the given step and all later ones."""
    steps = max(1, images // batch_size)  # per epoch
    for epoch in itertools.count(step // steps):
        order = epoch_order(images, seed, epoch)
        for later in range(max(step, epoch * steps), (epoch + 1) * steps):
            start = (later - epoch * steps) * batch_size
            indices = order[start : start + batch_size].tolist()
            yield Request(indices, [derive_seed(seed, "augmentation", later, index) for index in indices])


def files_in(root: str | Path) -> tuple[FileList, FileList, tuple[str, ...]]:
    """Return the training files, the test files and the class names. Raises a DataError that names `root`."""
    folder = Path(str(root)).expanduser()
    try:
        for part in (folder, folder / "train", folder / "val"):
            if not part.is_dir():
                raise DataError(f"{part} is not a folder; expected train/<class>/ and val/<class>/")
        names = class_folders(folder / "train")
        return list_files(folder / "train", names), list_files(folder / "val", names), names
    except DataError as error:
        raise DataError(str(error), "root", root) from error
    except OSError as error:
        raise DataError(f"can't be read: {one_line(error)}", "root", root) from error


def splits_in(root: str | Path, validation: float) -> tuple[FileList, FileList, FileList, tuple[str, ...]]:
    """Return the training, validation and test files, each in a fixed random order, and the class names."""
    check_fraction("validation", validation)
    train, test, names = files_in(root)
    train = shuffled(train)
    kept, taken = stratified_fraction(train.labels.numpy(), validation, "validation")
    return train[kept], train[taken], shuffled(test), names


def shuffled(files: FileList) -> FileList:
    # The stream of RandomState is the same in all versions of NumPy.
    return files[np.random.RandomState(0).permutation(len(files))]
