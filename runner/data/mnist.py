"""MNIST and Fashion-MNIST: 60,000 + 10,000 grayscale images of 28x28 pixels in ten classes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch

from runner.data import normalization
from runner.data.errors import DataError
from runner.data.idx import read_idx
from runner.data.images import ImageData, ImageSplit
from runner.data.on_disk import Layout, load
from runner.parameters import BelowOne, CountFrom0, checked

STEMS = ("train-images", "train-labels", "t10k-images", "t10k-labels")


class MNIST(ImageData):
    """MNIST (LeCun et al., 1998).

    `root` contains torchvision's `MNIST/raw`, a folder `mnist`, or the four idx files themselves, gzipped or not.
    Otherwise `download` fetches them through torchvision.

    Raises:
        DataError: files are missing or damaged, or belong to the other of the two data sets.
    """

    folders: ClassVar[tuple[str, ...]] = ("mnist",)
    elsewhere: ClassVar[tuple[Path, ...]] = ()
    names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    # MNIST and Fashion-MNIST have the same file names but different labels.
    first_test_labels: ClassVar[tuple[int, ...]] = (7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0, 6, 9, 0, 1, 5)

    @checked
    def __init__(
        self,
        root: str | Path = "data",
        download: bool = True,
        validation: BelowOne = 0.1,
        crop: CountFrom0 = 2,
        flip: bool = False,
        normalize: normalization.Kind = "channel",
    ) -> None:
        folder = Path(str(root)).expanduser()
        train, test = load(folder, type(self).__name__, lambda: self._layouts(folder), download)
        self._refuse_relatives(folder, test)
        super().__init__(train, test, self.names, validation=validation, crop=crop, flip=flip, normalize=normalize)

    def _layouts(self, root: Path) -> list[Layout]:
        raw = root / type(self).__name__ / "raw"
        others = [*(root / name for name in self.folders), root, *self.elsewhere]
        return [
            Layout(idx_files(raw), read_idx_files, torchvision=True),
            *(Layout(idx_files(folder), read_idx_files) for folder in others),
        ]

    def _refuse_relatives(self, root: Path, test: ImageSplit) -> None:
        for relative in (MNIST, FashionMNIST):
            known = relative.first_test_labels
            if relative is not type(self) and tuple(test.labels[: len(known)].tolist()) == known:
                raise DataError(f"holds {relative.__name__}, not {type(self).__name__}", "root", root)


class FashionMNIST(MNIST):
    """Fashion-MNIST (Xiao et al., 2017).

    Its files have the same names as those of `MNIST`, in `FashionMNIST/raw`, in a folder `fashion-mnist`,
    `fashion_mnist` or `fashion`, in `root` itself, or where Debian's package dataset-fashion-mnist installs them.
    """

    folders: ClassVar[tuple[str, ...]] = ("fashion-mnist", "fashion_mnist", "fashion")
    elsewhere: ClassVar[tuple[Path, ...]] = (Path("/usr/share/datasets/fashion-mnist"),)
    names: ClassVar[tuple[str, ...]] = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )
    first_test_labels: ClassVar[tuple[int, ...]] = (9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5, 7, 3, 4, 1)

    @checked
    def __init__(
        self,
        root: str | Path = "data",
        download: bool = True,
        validation: BelowOne = 0.1,
        crop: CountFrom0 = 2,
        flip: bool = True,
        normalize: normalization.Kind = "channel",
    ) -> None:
        super().__init__(root, download, validation, crop, flip, normalize)


def idx_files(folder: Path) -> tuple[Path, ...]:
    """Return the paths of the training images, training labels, test images and test labels.

    Each path is the first variant of the name that exists, or else the usual name.
    """
    return tuple(idx_file(folder, stem, 3 if stem.endswith("images") else 1) for stem in STEMS)


def idx_file(folder: Path, stem: str, dimensions: int) -> Path:
    names = [f"{stem}{mark}idx{dimensions}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def read_idx_files(files: tuple[Path, ...]) -> tuple[ImageSplit, ImageSplit]:
    return read_split(*files[:2]), read_split(*files[2:])


def read_split(image_file: Path, label_file: Path) -> ImageSplit:
    """Read one split. Raises a DataError unless the files match and hold 28x28 images in ten classes."""
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if images.shape[1:] != (28, 28) or not len(images):
        raise DataError(f"{image_file} holds an array of {images.shape}; expected images of 28x28")
    if len(labels) != len(images):
        raise DataError(f"{label_file} holds {len(labels)} labels for the {len(images)} images of {image_file.name}")
    if labels.max() > 9:
        raise DataError(f"{label_file} holds the label {labels.max()}; expected 0 to 9")
    return ImageSplit(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels).long())
