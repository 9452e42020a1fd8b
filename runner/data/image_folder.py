"""A small user-provided image set, with one folder of image files per class."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from runner.data import normalization
from runner.data.errors import DataError
from runner.data.image_file import SUFFIXES, read_image
from runner.data.images import ImageData, ImageSplit
from runner.data.splitting import stratified_fraction
from runner.parameters import BelowOne, Count, CountFrom0, ProperFraction, checked

log = logging.getLogger(__name__)

Labelled = list[tuple[Path, int]]


class ImageFolder(ImageData):
    """Images in one folder per class, resized to `size` x `size` pixels.

    They are read from `root/train/<class>/` and `root/test/<class>/` (or `root/val/<class>/`). If there is no such pair
    of folders, they are read from `root/train/<class>/` if it exists, otherwise from `root/<class>/`, and a stratified
    fraction `test` of them is used for testing. Subfolders of a class folder belong to the class. Images are grayscale
    if all files are, otherwise RGB.

    Each split has a fixed random order, so that its first images cover all classes.

    Raises:
        DataError: an image cannot be read, or a folder contains no classes.
    """

    @checked
    def __init__(
        self,
        root: str | Path,
        size: Count = 32,
        test: ProperFraction = 0.2,
        validation: BelowOne = 0.1,
        crop: CountFrom0 = 4,
        flip: bool = True,
        normalize: normalization.Kind = "channel",
    ) -> None:
        try:
            train_files, test_files, names = find_files(Path(str(root)).expanduser(), test)
            both = read_files([*shuffled(train_files), *shuffled(test_files)], size)
        except DataError as error:
            raise DataError(str(error), "root", root) from error
        count = len(train_files)
        super().__init__(
            both[:count], both[count:], names, validation=validation, crop=crop, flip=flip, normalize=normalize
        )

    @staticmethod
    def fingerprint(root: str | Path, **_: object) -> str:
        """Return a hash of the names and contents of all image files, which is part of a run's identity."""
        folder = Path(str(root)).expanduser()
        if not folder.is_dir():
            raise DataError("no such folder", "root", root)
        digest = hashlib.sha256()
        for path in sorted(path for path in folder.rglob("*") if is_image_file(path, folder)):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder)}\0{content}\n".encode())
        return digest.hexdigest()

    @staticmethod
    def inventory(root: str | Path, test: float = 0.2, **_: object) -> dict[str, object]:
        """Return the classes, the number of files, and a hash of their names and sizes, without reading images.

        They are used to check that the images have not changed when a run is pruned later.
        """
        folder = Path(str(root)).expanduser()
        try:
            train_files, test_files, names = find_files(folder, test)
        except DataError as error:
            raise DataError(str(error), "root", root) from error
        paths = sorted(path for path, _ in [*train_files, *test_files])
        lines = "".join(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\n" for path in paths)
        digest = hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
        return {"classes": list(names), "files": len(paths), "names_and_sizes": digest}


def find_files(root: Path, test: float) -> tuple[Labelled, Labelled, tuple[str, ...]]:
    """Return labelled files for training and testing, and the class names."""
    if not root.is_dir():
        raise DataError("no such folder")
    train_folder = root / "train"
    test_folders = [root / name for name in ("test", "val") if (root / name).is_dir()]
    if train_folder.is_dir() and test_folders:
        for unread in test_folders[1:]:
            log.warning(
                "%s is not read: test images come from %s, validation images from train", unread, test_folders[0]
            )
        names = class_folders(train_folder)
        return labelled(train_folder, names), labelled(test_folders[0], names), names
    folder = train_folder if train_folder.is_dir() and holds_folders(train_folder) else root
    names = class_folders(folder)
    files = labelled(folder, names)
    kept, taken = stratified_fraction(np.array([label for _, label in files]), test, "test")
    return [files[index] for index in kept], [files[index] for index in taken], names


def holds_folders(folder: Path) -> bool:
    return any(visible(path) and path.is_dir() for path in folder.iterdir())


def visible(path: Path) -> bool:
    return not path.name.startswith(".")


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the class folders. Raises a DataError unless there are at least two."""
    names = tuple(sorted(path.name for path in folder.iterdir() if visible(path) and path.is_dir()))
    if len(names) < 2:
        raise DataError(f"{folder} holds {len(names)} class folders; expected one for each of two or more classes")
    return names


def labelled(folder: Path, names: Sequence[str]) -> Labelled:
    """Return the labelled image files of the classes, sorted by path.

    Raises a DataError for an unknown or empty class.
    """
    present = sorted(path for path in folder.iterdir() if visible(path) and path.is_dir())
    files: Labelled = []
    for class_folder in present:
        if class_folder.name not in names:
            raise DataError(f"{class_folder} is not one of the training classes {', '.join(names)}")
        images = sorted(path for path in class_folder.rglob("*") if is_image_file(path, class_folder))
        if not images:
            raise DataError(f"{class_folder} holds no image files ({' '.join(sorted(SUFFIXES))})")
        files += [(path, names.index(class_folder.name)) for path in images]
    if not files:
        raise DataError(f"{folder} holds no class folders")
    return files


def is_image_file(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def shuffled(files: Labelled) -> Labelled:
    # The stream of RandomState is the same in all versions of NumPy.
    return [files[index] for index in np.random.RandomState(0).permutation(len(files))]


def read_files(files: Labelled, size: int) -> ImageSplit:
    """Read images (N, C, size, size), where C is 1 if all files are grayscale and 3 otherwise."""
    arrays = [read_image(path, size) for path, _ in files]
    if all(array.ndim == 2 for array in arrays):
        pixels = np.stack(arrays)[:, None]
    else:
        colour = [array if array.ndim == 3 else np.repeat(array[:, :, None], 3, 2) for array in arrays]
        pixels = np.stack(colour).transpose(0, 3, 1, 2)
    return ImageSplit(torch.from_numpy(pixels), torch.tensor([label for _, label in files], dtype=torch.int64))
