"""A compact list of the image files of a large data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runner.data.errors import DataError
from runner.data.image_file import SUFFIXES
from runner.data.image_folder import visible


@dataclass(frozen=True, eq=False)
class FileList:
    """The paths of N files relative to `folder`, as bytes (N,), and their labels (N,) int64.

    They are stored in arrays instead of lists: reading a million Python objects changes their reference counts, so that
    each worker process would copy their memory pages.
    """

    folder: Path
    names: NDArray[np.bytes_]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: NDArray[Any]) -> FileList:
        return FileList(self.folder, self.names[indices], self.labels[torch.from_numpy(indices)])

    def path(self, index: int) -> Path:
        return self.folder / os.fsdecode(self.names[index])


def list_files(folder: Path, class_names: Sequence[str]) -> FileList:
    """Return the image files in the class folders, sorted by class, then by path. Classes may lack a folder.

    Raises:
        DataError: a folder belongs to no known class or has no images.
    """
    for present in sorted(path.name for path in folder.iterdir() if visible(path) and path.is_dir()):
        if present not in class_names:
            raise DataError(f"{folder / present} is not one of the {len(class_names)} training classes")
    names: list[bytes] = []
    labels: list[int] = []
    for label, class_name in enumerate(class_names):
        if (folder / class_name).is_dir():
            found = sorted(image_names(folder / class_name))
            if not found:
                raise DataError(f"{folder / class_name} holds no image files ({' '.join(sorted(SUFFIXES))})")
            names += [os.fsencode(f"{class_name}/{name}") for name in found]
            labels += [label] * len(found)
    if not names:
        raise DataError(f"{folder} holds no class folders")
    return FileList(folder, np.array(names), torch.tensor(labels))


def image_names(folder: Path) -> Iterator[str]:
    """Yield the relative paths of all image files under the folder, except hidden ones."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder)
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield (below / name).as_posix()
