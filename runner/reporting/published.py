"""The numbers of published tables, which ship with the package as CSV files."""

import csv
from functools import cache
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).resolve().parent.parent / "published"


@cache
def published_files() -> list[str]:
    """The names of all published tables that have sparsities for rows."""
    return [path.stem for path in sorted(FOLDER.glob("*.csv")) if _heads(path)[0] == "prune"]


@cache
def published_heads(file: str) -> list[str]:
    """The heads of a published table's columns."""
    return [head for head in _heads(FOLDER / f"{file}.csv")[1:] if not head.endswith(" std")]


def published_values(file: str, head: str, in_percent: bool) -> pd.DataFrame:
    """One column of a published table: `mean` and `std` (NaN where none was published), by sparsity in [0, 1].

    Args:
        in_percent: whether its values are percent, to be turned into fractions.
    """
    table = pd.read_csv(FOLDER / f"{file}.csv", index_col="prune")
    table.index = pd.Index([round(float(str(row).rstrip("%")) / 100, 9) for row in table.index], name="sparsity")
    table = table / (100 if in_percent else 1)
    std = table[f"{head} std"] if f"{head} std" in table else float("nan")
    return pd.DataFrame({"mean": table[head], "std": std})


def _heads(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return next(csv.reader(file))
