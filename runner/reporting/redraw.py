"""Redraw figures from the stored tables: python -m runner.reporting.redraw FOLDER…

This updates figures after changes to the drawing code, even if the runs are not available. Each folder must contain the
files written by `run table`, `run reproduce` or `run scree`: table.csv, table.md and, for `run scree`, choices.csv.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from runner.analyses.scree.report import EXACT, PCA, Choosing
from runner.analyses.scree.report import figures as scree_figures
from runner.config.compose import Composer
from runner.errors import ConfigError
from runner.reporting.formats import COSTS, COUNTS
from runner.reporting.reproduction import Plan
from runner.reporting.reproduction import figure as reproduction_figure
from runner.reporting.sections import CSV_COLUMNS, Section, Table
from runner.reporting.writing import table_figure
from runner.tasks.metrics import Metric, by_name


def redraw(folder: Path) -> list[Path]:
    """Redraw the figures of one folder and return their paths.

    Raises:
        ConfigError: the folder has no table with figures.
    """
    try:
        rows, lines = pd.read_csv(folder / "table.csv"), (folder / "table.md").read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}: {Path(str(error.filename)).name}") from None
    if set(CSV_COLUMNS) <= set(rows):
        return _table(rows, lines, folder)
    if {"head", "paper"} <= set(rows):
        return _reproduction(rows, lines, folder)
    if {"place", "k"} <= set(rows):
        return _scree(rows, folder)
    raise ConfigError(f"{folder}: expected a table of run table, run reproduce or run scree")


def _table(rows: pd.DataFrame, lines: Sequence[str], folder: Path) -> list[Path]:
    rows["source"] = rows["source"].astype(object).fillna("")
    rows["n"] = rows["n"].astype("Int64")
    published = {str(name): bool(part["source"].iloc[0]) for name, part in rows.groupby("column")}
    own = ""
    beside: dict[str, str] = {}
    for name in map(str, rows["column"].unique()):  # published columns follow the one that they are compared with
        own = own if published[name] else name
        beside[name] = own
    rows["beside"] = rows["column"].map(beside)
    sections = [
        Section(str(granularity), norm, part, list(part["column"].unique()), [])
        for granularity, selected in rows.groupby("granularity", sort=False)
        for norm, part in _by_batch_norm(selected)
    ]
    label, _, common = lines[0].partition(", ")  # ## test accuracy (%), digits · resnet32 · 50ep
    first, names = rows.iloc[0], [name for name in beside if not published[name]]
    x = next((cost for cost in (*COSTS, *COUNTS) if cost in rows), "sparsity")
    shown = label.removeprefix(f"## {first['split']} ")
    metric = Metric(str(first["metric"]), shown.removesuffix(" (%)"), percent=shown.endswith(" (%)"))
    return table_figure(Table(metric, first["split"], common, sections, names, [], x), folder)


def _by_batch_norm(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each BatchNorm mode. Those of models without BatchNorm belong to all of them."""
    norms = [str(norm) for norm in rows["batch_norm"].unique() if norm != "none"] or ["none"]
    parts = [(norm, rows[rows["batch_norm"].isin([norm, "none"])].drop_duplicates()) for norm in norms]
    return [(norm, part.reset_index(drop=True)) for norm, part in parts]


def _reproduction(rows: pd.DataFrame, lines: Sequence[str], folder: Path) -> list[Path]:
    name, about = lines[0].removeprefix("# "), lines[2].partition("; ")[0]
    plan = Plan.of(Composer("reproduce").single([f"table={name}"])["table"])
    if "floor" not in rows:  # tables written before unpruned rows existed
        rows["floor"] = 0.0
    return reproduction_figure(plan, rows, about, folder / "table.png")


def _scree(rows: pd.DataFrame, folder: Path) -> list[Path]:
    chosen = pd.read_csv(folder / "choices.csv")
    ratios = [str(name) for name in rows if str(name).endswith((f"/{EXACT}", f"/{PCA}"))]
    columns = [str(name) for name in rows if name not in ("place", "k", "metric", "split")]
    first = ratios[0].rpartition("/")[0] if ratios else columns[0]
    metric = str(chosen["metric"].iloc[0] if len(chosen) else rows["metric"].iloc[0])
    return scree_figures(rows, chosen, Choosing(by_name(metric), tolerance=0.0), first, folder)


if __name__ == "__main__":
    try:
        for argument in sys.argv[1:]:
            print(*redraw(Path(argument)), sep="\n")
    except ConfigError as error:
        sys.exit(f"redraw: {error}")
