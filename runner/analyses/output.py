"""The output of an analysis: a folder of CSV files, a Markdown page and figures. Their paths are printed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from runner.files import write_frame, write_text


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame], text: str) -> list[Path]:
    """Write <name>.csv for each table and table.md, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.csv" for name in tables]
    for path, frame in zip(paths, tables.values(), strict=True):
        write_frame(path, frame)
    write_text(folder / "table.md", text)
    return [*paths, folder / "table.md"]


def folder_of(options: Mapping[str, Any], *default: str) -> Path:
    """Return the output folder: `out`, or a folder under `outputs`."""
    return Path(options["out"] or Path(options["outputs"], *default))


def show(text: str, paths: Sequence[Path]) -> None:
    """Print the page and the paths of all files."""
    print(text)
    print(*paths, sep="\n")
