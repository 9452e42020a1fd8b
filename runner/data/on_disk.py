"""Load a data set from one of several layouts on disk, or download it through torchvision."""

from __future__ import annotations

import fcntl
import http.client
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.data.errors import DataError, one_line
from runner.data.images import ImageSplit
from runner.data.torchvision_import import import_torchvision

DOWNLOAD_ERRORS = (RuntimeError, OSError, EOFError, http.client.HTTPException, tarfile.TarError, zlib.error)


@dataclass(frozen=True)
class Layout:
    """An on-disk layout of a data set: the required files, and a function that reads (training, test) from them."""

    files: tuple[Path, ...]
    read: Callable[[tuple[Path, ...]], tuple[ImageSplit, ImageSplit]]
    torchvision: bool = False  # whether a download completes it

    def missing(self) -> list[Path]:
        return [path for path in self.files if not path.is_file()]


def load(
    root: Path, dataset: str, layouts: Callable[[], Sequence[Layout]], download: bool
) -> tuple[ImageSplit, ImageSplit]:
    """Return the training and test splits of torchvision's `dataset` from the first complete layout.

    `layouts` is called again after a download.

    Raises:
        DataError: no layout is complete and `download` is false, only some files of a layout exist, a file is damaged,
            or the download fails. The message names `root`.
    """
    try:
        found = first_complete(layouts())
        if found is None:
            refuse_halves(layouts(), download)
            if not download:
                expected = layouts()[0].files[0]
                problem = f"no {dataset} here (looked for {expected} and other layouts)"
                raise DataError(problem, remedy="download=true fetches it")
            fetch(root, dataset)
            found = first_complete(layouts())
            if found is None:
                raise DataError(f"the download of {dataset} is incomplete")
        return found.read(found.files)
    except DataError as error:
        raise DataError(error.problem, "root", root, error.remedy) from error
    except OSError as error:
        raise DataError(f"can't be read: {one_line(error)}", "root", root) from error


def first_complete(layouts: Sequence[Layout]) -> Layout | None:
    return next((layout for layout in layouts if not layout.missing()), None)


def refuse_halves(layouts: Sequence[Layout], download: bool) -> None:
    """Raise a DataError if only some files of a layout exist, unless a download will complete it."""
    for layout in layouts:
        missing = layout.missing()
        if len(missing) < len(layout.files) and not (layout.torchvision and download):
            raise DataError(
                f"{missing[0]} is missing, but {len(layout.files) - len(missing)} other files of the data set exist"
            )


def fetch(root: Path, dataset: str) -> None:
    """Download a data set through torchvision, which verifies the files. Only one process downloads at a time."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (root / ".download.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            getattr(import_torchvision().datasets, dataset)(root=str(root), train=True, download=True)
    except DOWNLOAD_ERRORS as error:
        problem = f"no {dataset} here, and its download failed: {one_line(error)}"
        raise DataError(f"{problem}; name a folder that holds it") from error
