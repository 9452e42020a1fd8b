"""User-provided parallel text: pairs of files whose lines are translations of each other."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.data.errors import DataError, one_line
from runner.data.pairs import PairData, Texts
from runner.data.vocabulary import Size
from runner.parameters import Count, checked

log = logging.getLogger(__name__)

GZIP = b"\x1f\x8b"
ALLOWED = "expected [SOURCE,TARGET], two UTF-8 files with aligned lines, plain or gzipped"

Names = Sequence[str | Path]


class ParallelText(PairData):
    """Parallel text from `[source, target]` files for each split; relative names are looked up in `root`.

    Line n of a target file is the translation of line n of its source file. Whitespace around a line, a byte order mark
    and the type of line ending are ignored. Pairs with an empty side are left out of every split. `PairData` describes
    how long pairs are handled.
    """

    @checked
    def __init__(
        self,
        train: Names,
        validation: Names,
        test: Names,
        root: str | Path | None = None,
        vocabulary: Size = 8000,
        longest: Count = 100,
    ) -> None:
        """Read the files, learn the vocabulary and encode all splits.

        Raises:
            DataError: files are missing, damaged or empty, or do not match. The message names the parameter.
            ParameterError: `vocabulary` or `longest` is invalid.
        """
        texts = [files.read() for files in splits_in(root, train, validation, test)]
        super().__init__(*texts, vocabulary=vocabulary, longest=longest)

    @staticmethod
    def fingerprint(train: Names, validation: Names, test: Names, root: str | Path | None = None, **_: object) -> str:
        """Return a hash of the uncompressed contents of the six files."""
        hashes = [files.hashes() for files in splits_in(root, train, validation, test)]
        return hashlib.sha256(repr(hashes).encode()).hexdigest()


@dataclass(frozen=True)
class SplitFiles:
    """The two files of a split and the constructor parameter that names them."""

    split: str
    names: Any  # the parameter's value, not checked yet
    folder: Path

    def read(self) -> Texts:
        """Return the pairs of non-empty lines. Raises a DataError that names the parameter."""
        with self._paths() as (source, target):
            sources, targets = read_lines(source), read_lines(target)
            if len(sources) != len(targets):
                raise DataError(f"{source} has {len(sources)} lines, {target} has {len(targets)}")
            pairs = [(one, other) for one, other in zip(sources, targets, strict=True) if one and other]
            if not pairs:
                raise DataError(f"{source} and {target} hold no pair of non-empty lines")
        if len(pairs) < len(sources):
            log.warning("%s: left out %d of %d pairs, empty on a side", self, len(sources) - len(pairs), len(sources))
        return Texts([one for one, _ in pairs], [other for _, other in pairs])

    def hashes(self) -> list[str]:
        """Return the hash of each file's uncompressed content. Raises a DataError that names the parameter."""
        with self._paths() as paths:
            return [hash_of(path) for path in paths]

    @contextmanager
    def _paths(self) -> Iterator[tuple[Path, Path]]:
        try:
            if not is_pair_of_names(self.names):
                raise DataError("not a pair of file names")
            source, target = (self.folder / Path(name).expanduser() for name in self.names)
            yield source, target
        except DataError as error:
            raise DataError(f"{error}; {ALLOWED}", self.split, shown(self.names)) from error

    def __str__(self) -> str:
        return f"data.{self.split}={shown(self.names)}"


def splits_in(root: str | Path | None, train: Names, validation: Names, test: Names) -> list[SplitFiles]:
    """Return the training, validation and test files. Raises a DataError if `root` is not a folder."""
    folder = Path() if root is None else Path(str(root)).expanduser()
    if not folder.is_dir():
        raise DataError("no such folder; expected the folder of the files of all splits", "root", root)
    named = {"train": train, "validation": validation, "test": test}
    return [SplitFiles(split, names, folder) for split, names in named.items()]


def shown(names: Any) -> str:
    """Format file names as on the command line, for an error message."""
    return f"[{','.join(map(str, names))}]" if isinstance(names, list | tuple) else str(names)


def is_pair_of_names(names: Any) -> bool:
    fits = isinstance(names, list | tuple) and len(names) == 2
    return fits and all(isinstance(name, str | Path) and str(name) for name in names)


def read_lines(path: Path) -> list[str]:
    """Return the lines, stripped of whitespace. Raises a DataError that names file and line if they are not UTF-8."""
    lines = []
    # Only "\n" ends a line. Python knows other line separators, which may occur in one side of a pair only.
    with unpacked(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                lines.append(line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").decode().strip())
            except UnicodeDecodeError as error:
                raise DataError(f"{path}, line {number}: not UTF-8 ({error.reason})") from error
    return lines


def hash_of(path: Path) -> str:
    with unpacked(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def unpacked(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file, decompressing it if it is gzipped. Raises a DataError that names a file that cannot be read."""
    try:
        with path.open("rb") as file:
            if file.peek(2)[:2] == GZIP:
                with gzip.open(file) as content:
                    yield content
            else:
                yield file
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a damaged or truncated gzip file: {one_line(error)}") from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {one_line(error)}") from error
