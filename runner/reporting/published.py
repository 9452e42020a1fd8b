"""Read the published tables that come with the package as CSV files."""

import csv
from functools import cache
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).resolve().parent.parent / "published"


@cache
def published_files() -> list[str]:
    """Return the names of all published tables with one row per sparsity."""
    return [path.stem for path in sorted(FOLDER.glob("*.csv")) if _heads(path)[0] == "prune"]


@cache
def published_heads(file: str) -> list[str]:
    """Return the column headings of a published table, except those for standard deviations."""
    return [head for head in _heads(FOLDER / f"{file}.csv")[1:] if not head.endswith(" std")]


def published_values(file: str, head: str, in_percent: bool) -> pd.DataFrame:
    """Return `mean` and `std` (NaN if not published) for one column, indexed by sparsity in [0, 1].

    Args:
        in_percent: whether the published values are percentages, which are converted to fractions.
    """
    table = pd.read_csv(FOLDER / f"{file}.csv", index_col="prune")
    table.index = pd.Index([round(float(str(row).rstrip("%")) / 100, 9) for row in table.index], name="sparsity")
    table = table / (100 if in_percent else 1)
    std = table[f"{head} std"] if f"{head} std" in table else float("nan")
    return pd.DataFrame({"mean": table[head], "std": std})


def _heads(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return next(csv.reader(file))
