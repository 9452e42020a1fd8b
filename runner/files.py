"""Utilities for files: atomic writes, CSV files that grow row by row, and YAML."""

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from runner.errors import damaged

if TYPE_CHECKING:  # importing pandas would slow down the listing of runs
    import pandas as pd

# The loader of libyaml is about six times as fast; PyYAML may have been built without it.
_QUICK_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEPTH = 1000  # libyaml recurses once per level of nesting, and crashes the process at about 50,000
_SEED = re.compile(r"^seed: (0|[1-9]\d*)$", re.MULTILINE)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: under a temporary name, then renamed, so that a partial file is never visible."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file atomically."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    beside.replace(path)


def write_frame(path: Path, frame: "pd.DataFrame") -> None:
    """Write a data frame as CSV, atomically. Nine significant digits represent every float32 exactly."""
    write_text(path, frame.to_csv(index=False, lineterminator="\n", float_format="%.9g"))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 hash of a file's content as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, or [] if there is no file. Incomplete rows are ignored, see `rows_of`.

    Raises:
        DamagedRun: the file is not text.
    """
    try:
        return rows_of(path.read_text())
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise damaged(path, error) from None


def rows_of(text: str) -> list[dict[str, str]]:
    """Parse the rows of a CSV file's content.

    A final line without a newline (truncated by a crash) is ignored, as are rows with too few or too many values.
    """
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    rows = csv.DictReader(lines)
    return [row for row in rows if None not in row and None not in row.values()]


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole CSV file atomically."""
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, content.getvalue())


def append_row(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Append a row and flush it to disk."""
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
        file.flush()
        os.fsync(file.fileno())


def load_yaml(text: str) -> Any:
    """Parse YAML into plain values. Tags that construct objects raise an error.

    Raises:
        YAMLError: the text is not YAML, or is nested too deeply.
    """
    # An upper bound: every level takes a bracket or at least one column of a line.
    depth = text.count("[") + text.count("{") + max(map(len, text.split("\n")))
    try:
        return yaml.load(text, _QUICK_YAML if depth < _DEPTH else yaml.SafeLoader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


def load_config(text: str) -> Any:
    """Parse a stored configuration like `load_yaml`.

    The configurations of one column of a table differ only in the line of the seed, so the rest is parsed once.
    """
    seeds = _SEED.findall(text)
    config = _parsed(_SEED.sub("seed: 0", text)) if len(seeds) == 1 else None
    if not isinstance(config, dict) or config.get("seed") != 0:
        return load_yaml(text)
    return {**deepcopy(config), "seed": int(seeds[0])}


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    return load_yaml(text)
