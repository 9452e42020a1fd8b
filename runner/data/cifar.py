"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour images of 32x32 pixels (Krizhevsky, 2009)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from runner.data import normalization
from runner.data.class_names import CIFAR10_NAMES, CIFAR100_NAMES
from runner.data.errors import DataError, one_line
from runner.data.images import ImageData, ImageSplit
from runner.data.on_disk import Layout, load
from runner.data.torchvision_import import import_torchvision
from runner.parameters import BelowOne, CountFrom0, checked

PIXELS = 3 * 32 * 32


class CIFAR10(ImageData):
    """CIFAR-10, with ten classes.

    `root` contains the official binary version (`cifar-10-batches-bin`) or the official Python version, as stored by
    torchvision (`cifar-10-batches-py`), or is one of these folders. Otherwise `download` fetches the Python version
    through torchvision.

    Raises:
        DataError: files are missing or damaged.
    """

    names: ClassVar[tuple[str, ...]] = CIFAR10_NAMES
    binary_folder: ClassVar[str] = "cifar-10-batches-bin"
    python_folder: ClassVar[str] = "cifar-10-batches-py"
    train_files: ClassVar[tuple[str, ...]] = tuple(f"data_batch_{number}" for number in range(1, 6))
    test_file: ClassVar[str] = "test_batch"
    meta_file: ClassVar[str] = "batches.meta"
    label_bytes: ClassVar[int] = 1  # in a binary record; the last of them is the label
    train_records: ClassVar[int] = 10_000  # in each binary training file
    test_records: ClassVar[int] = 10_000

    @checked
    def __init__(
        self,
        root: str | Path = "data",
        download: bool = True,
        validation: BelowOne = 0.1,
        crop: CountFrom0 = 4,
        flip: bool = True,
        normalize: normalization.Kind = "channel",
    ) -> None:
        folder = Path(str(root)).expanduser()
        train, test = load(folder, type(self).__name__, lambda: self._layouts(folder), download)
        super().__init__(train, test, self.names, validation=validation, crop=crop, flip=flip, normalize=normalize)

    def _layouts(self, root: Path) -> list[Layout]:
        binary = [f"{name}.bin" for name in (*self.train_files, self.test_file)]
        python = (*self.train_files, self.test_file, self.meta_file)
        parents = [root / self.python_folder, *([root] if root.resolve().name == self.python_folder else [])]
        # Prefer the binary version: it has the same images and needs no unpickling.
        return [
            *(Layout(files_in(folder, binary), self._read_binary) for folder in (root / self.binary_folder, root)),
            *(Layout(files_in(folder, python), self._read_python, torchvision=True) for folder in parents),
        ]

    def _read_binary(self, files: tuple[Path, ...]) -> tuple[ImageSplit, ImageSplit]:
        train = [self._read_records(path, self.train_records) for path in files[:-1]]
        images, labels = torch.cat([part.images for part in train]), torch.cat([part.labels for part in train])
        return ImageSplit(images, labels), self._read_records(files[-1], self.test_records)

    def _read_records(self, path: Path, records: int) -> ImageSplit:
        size, expected = path.stat().st_size, records * (self.label_bytes + PIXELS)
        if size != expected:
            raise DataError(f"{path} holds {size} bytes; expected {expected}, {records} images")
        content = np.fromfile(path, dtype=np.uint8).reshape(records, -1)
        labels = content[:, self.label_bytes - 1].astype(np.int64)
        if labels.max() >= len(self.names):
            raise DataError(f"{path} holds the label {labels.max()}; expected 0 to {len(self.names) - 1}")
        images = content[:, self.label_bytes :].reshape(records, 3, 32, 32)
        return ImageSplit(torch.from_numpy(images), torch.from_numpy(labels))

    def _read_python(self, files: tuple[Path, ...]) -> tuple[ImageSplit, ImageSplit]:
        # These files are pickles, which can execute code. torchvision only opens them if their MD5 sums are official.
        folder = files[0].parent
        loader = getattr(import_torchvision().datasets, type(self).__name__)
        try:
            train, test = (loader(root=str(folder.resolve().parent), train=part) for part in (True, False))
        except RuntimeError as error:
            raise DataError(f"{folder} does not hold the official files: {one_line(error)}") from error
        return from_torchvision(train.data, train.targets), from_torchvision(test.data, test.targets)


class CIFAR100(CIFAR10):
    """CIFAR-100, with a hundred classes (fine labels), from `cifar-100-binary` or `cifar-100-python`. See `CIFAR10`."""

    names: ClassVar[tuple[str, ...]] = CIFAR100_NAMES
    binary_folder: ClassVar[str] = "cifar-100-binary"
    python_folder: ClassVar[str] = "cifar-100-python"
    train_files: ClassVar[tuple[str, ...]] = ("train",)
    test_file: ClassVar[str] = "test"
    meta_file: ClassVar[str] = "meta"
    label_bytes: ClassVar[int] = 2
    train_records: ClassVar[int] = 50_000


def files_in(folder: Path, names: list[str] | tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(folder / name for name in names)


def from_torchvision(images: np.ndarray, labels: list[int]) -> ImageSplit:
    """Convert torchvision's (N, 32, 32, 3) array and list of labels to a split."""
    return ImageSplit(torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(labels, dtype=torch.int64))
