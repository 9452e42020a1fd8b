"""Differences between columns, paired by seed: runs with the same seed share initial weights and batches."""

import pandas as pd

from runner.reporting.points import is_unpruned

CONFIDENCE = 0.95
INTERVAL = "half the width of a 95 % interval (Student's t) after ±"
PAIRED_COLUMNS = ("column", "sparsity", "unpruned", "difference", "interval", "n")


def added_unpruned(points: pd.DataFrame) -> "pd.Series[bool]":
    """Return a mask of the rows for the unpruned networks of columns that begin at a floor.

    Args:
        points: with `column`, `floor` and `sparsity`.
    """
    floored = points.loc[points["floor"] > 0, "column"]
    return is_unpruned(points) & points["column"].isin(floored)


def paired_differences(points: pd.DataFrame, baseline: str, metric: str) -> pd.DataFrame:
    """Return the mean difference of every column from the baseline, over the seeds that both have.

    Args:
        points: one row per column, seed, floor and sparsity, with the metric in a column of that name.
        baseline: the column to compare with.

    Returns:
        `PAIRED_COLUMNS`, with one row per column and sparsity. `interval` is half the width of the 95 % interval by
        Student's t, which assumes that differences are normally distributed; NaN for a single pair. `unpruned` marks
        rows that compare unpruned networks, as in `Section`; they exist if any column begins at a floor.
    """
    added = added_unpruned(points)
    parts = [points[~added].assign(unpruned=False)]
    if added.any():
        parts.append(points[is_unpruned(points)].assign(unpruned=True))
    row = ["unpruned", "sparsity"]
    values = pd.concat(parts)[["column", *row, "seed", metric]].set_axis(["column", *row, "seed", "value"], axis=1)
    pairs = values[values["column"] != baseline].merge(values[values["column"] == baseline], on=[*row, "seed"])
    pairs["difference"] = pairs["value_x"] - pairs["value_y"]
    pairs = pairs.rename(columns={"column_x": "column"}).dropna(subset="difference")
    found = pairs.groupby(["column", *row], sort=False, as_index=False).agg(
        difference=pd.NamedAgg("difference", "mean"),
        interval=pd.NamedAgg("difference", half_width),
        n=pd.NamedAgg("difference", "count"),
    )
    return found[list(PAIRED_COLUMNS)]


def half_width(differences: "pd.Series[float]") -> float:
    """Return half the width of the 95 % interval of a mean by Student's t, or NaN if there is a single value."""
    from scipy.special import stdtrit  # half a second, and most tables have no baseline

    n = len(differences)
    if n < 2:
        return float("nan")
    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2) * differences.std() / n**0.5)
