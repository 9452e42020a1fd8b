"""Compare the cells of a published table with our own measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from runner.config.rules import show
from runner.errors import ConfigError
from runner.files import write_frame, write_text
from runner.reporting.drawing import Curve, Panel, Style, draw
from runner.reporting.formats import (
    BATCH_NORMS,
    UNPRUNED,
    mean_and_deviation,
    metric_label,
    number,
    percent,
)
from runner.reporting.points import is_unpruned, own_floors, read_points, statistics
from runner.reporting.published import published_files, published_heads, published_values
from runner.reporting.writing import padded
from runner.rules import between, list_of
from runner.runs import Run
from runner.tasks.metrics import Metric, by_name


@dataclass(frozen=True)
class Cell:
    """A column of a published table, or the part of a column that comes from one training configuration."""

    head: str
    overrides: tuple[str, ...]
    sparsities: tuple[float, ...]


# The options that are read from a table file; its other options are for run table.
PLAN_OPTIONS = ("granularity", "base", "sweep", "published_file", "cells", "doubtful", "notes")


@dataclass(frozen=True)
class Plan:
    """The part of a table file that describes how to reproduce a published table."""

    name: str
    granularity: str
    base: tuple[str, ...]
    sweep: tuple[str, ...]  # overrides of the sweep, regardless of the set-up
    files: Mapping[Metric, str]  # metric → published file
    cells: tuple[Cell, ...]
    doubtful: Mapping[str, str]  # head → reason
    notes: tuple[str, ...]  # differences between the set-up and the paper's

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "Plan":
        """Create a plan from the configuration's `table` section.

        Raises:
            ConfigError: the table file has no cells, a published file or column does not exist, or a sparsity is not
                in [0, 1].
        """
        if "cells" not in table:
            raise ConfigError(f"table={table['name']}: expected a published table, which has cells; see run list table")
        files = table["published_file"]
        files = dict(files) if isinstance(files, Mapping) else {"accuracy": files}
        for file in files.values():
            if file not in published_files():
                raise ConfigError(f"table.published_file={file}: expected {', '.join(published_files())}")
        fractions = list_of(between(0, 1))
        heads = {head: None for file in files.values() for head in published_heads(file)}
        for cell in table["cells"]:
            if cell["head"] not in heads and not cell.get("ours"):
                raise ConfigError(f"table.cells: {cell['head']} is not a published column; expected {', '.join(heads)}")
            if allowed := fractions(cell["sparsities"]):
                raise ConfigError(f"table.cells.sparsities={show(cell['sparsities'])}: expected {allowed}")
        cells = [Cell(c["head"], tuple(c["overrides"]), tuple(map(float, c["sparsities"]))) for c in table["cells"]]
        return cls(
            name=table["name"],
            granularity=table["granularity"],
            base=tuple(table["base"]),
            sweep=tuple(table.get("sweep", ())),
            files={by_name(metric): file for metric, file in files.items()},
            cells=tuple(cells),
            doubtful=table["doubtful"],
            notes=tuple(table["notes"]),
        )


def rows_of(plan: Plan, runs: Sequence[tuple[Cell, Sequence[Run]]]) -> pd.DataFrame:
    """Return all cells in long form.

    The columns are head, batch_norm, sparsity, actual_sparsity, metric, mean, std, n, floor, paper, paper_std,
    difference and doubtful. If a column comes from one training configuration and a floor above 0, an additional
    row with floor 0 and sparsity 0 describes the unpruned networks.

    Values are fractions, not percentages. Standard deviations over seeds have n − 1 in the denominator. `difference` is
    our mean minus the paper's. It is given only for kept BatchNorm statistics or models without BatchNorm, as in the
    paper.
    """
    frames = [_cell(plan, cell, done, metric) for metric in plan.files for cell, done in runs]
    rows = pd.concat(frames, ignore_index=True)
    rows["paper"] = rows["paper_std"] = float("nan")
    for metric, file in plan.files.items():
        for head in published_heads(file):
            paper = published_values(file, head, in_percent=metric.percent)
            here = (rows["metric"] == metric.name) & (rows["head"] == head) & ~_added(rows)
            rows.loc[here, "paper"] = rows.loc[here, "sparsity"].map(paper["mean"])
            rows.loc[here, "paper_std"] = rows.loc[here, "sparsity"].map(paper["std"])
    rows["difference"] = (rows["mean"] - rows["paper"]).where(rows["batch_norm"] != "recalibrated")
    rows["doubtful"] = rows["head"].map(lambda head: plan.doubtful.get(head, ""))
    return rows


def _cell(plan: Plan, cell: Cell, runs: Sequence[Run], metric: Metric) -> pd.DataFrame:
    points = pd.concat([_at_its_floor(read_points(run), run) for run in runs], ignore_index=True)
    wanted = {"granularity": plan.granularity, "scope": "layer", "scores": "own", "split": "test"}
    for column, value in wanted.items():
        points = points[points[column] == value]
    asked = points["sparsity"].isin([round(s, 9) for s in cell.sparsities])
    alone = sum(other.head == cell.head for other in plan.cells) == 1  # else the column has several networks
    whole = is_unpruned(points) & bool((points["floor"] > 0).any())
    points = points[(asked & ~whole) | (whole & alone)]
    if metric.name not in points:
        what = f"{metric.name}, which the task of {runs[0].folder} does not measure"
        raise ConfigError(f"table={plan.name} compares {what}")
    rows = points.groupby(["batch_norm", "sparsity", "floor"], as_index=False).agg(
        actual_sparsity=("actual_sparsity", "mean"), **statistics(metric)
    )
    rows["floor"] = rows.pop("floor")  # move behind the others
    rows.insert(0, "head", cell.head)
    rows.insert(4, "metric", metric.name)
    return rows


def _added(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return a mask of the unpruned rows that were added to columns that begin at a floor."""
    return is_unpruned(rows) & rows["head"].isin(rows.loc[rows["floor"] > 0, "head"])


def _at_its_floor(points: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Return the rows for the unpruned network and for the sweep requested by the run's own configuration.

    Later sweeps of the run may have used other floors.
    """
    asked = run.status().get("swept", {}).get("floor", "auto")
    known = own_floors(run)
    if asked != "auto":
        return points[(points["floor"] == float(asked)) | is_unpruned(points)]
    own = points["granularity"].map(lambda name: known.get(name, known[""]))
    own = own.where(own.isin(points["floor"].unique()), 0.0)
    return points[(points["floor"] == own) | is_unpruned(points)]


def markdown(plan: Plan, rows: pd.DataFrame, title: str) -> str:
    """Return one Markdown table for each metric and BatchNorm mode.

    Our values, with standard deviations and differences from the paper, are followed by the paper's values.
    """
    parts = [f"# {plan.name}", title]
    for metric, norm, part in _sections(plan, rows):
        as_paper = norm != "recalibrated"
        heads = list(dict.fromkeys(part["head"]))
        columns = [(head, published) for head in heads for published in ([False, True] if as_paper else [False])]
        columns = [(h, p) for h, p in columns if not p or part.loc[part["head"] == h, "paper"].notna().any()]
        lines = [["sparsity", *("paper" if published else _marked(plan, head) for head, published in columns)]]
        whole = {str(row["head"]): row for _, row in part[is_unpruned(part)].iterrows()}
        if _added(part).any():
            found = [(None if published else whole.get(head), published) for head, published in columns]
            lines.append([UNPRUNED, *(_shown(row, published, metric) for row, published in found)])
        part = part[~_added(part)]
        by_key = {(str(row["head"]), float(row["sparsity"])): row for _, row in part.iterrows()}
        for sparsity in sorted(part["sparsity"].unique()):
            found = [(by_key.get((head, float(sparsity))), published) for head, published in columns]
            lines.append([f"{percent(sparsity)} %", *(_shown(row, published, metric) for row, published in found)])
        parts += [f"## {_heading(metric, norm)}", "\n".join(padded(lines))]
    notes = [f"- † {head}: {why}." for head, why in plan.doubtful.items()] + [f"- {note}." for note in plan.notes]
    parts.append("\n".join(["Ours ± standard deviation over seeds (difference from the paper).", *notes]))
    return "\n\n".join(parts) + "\n"


def _sections(plan: Plan, rows: pd.DataFrame) -> list[tuple[Metric, str, pd.DataFrame]]:
    norms = [norm for norm in BATCH_NORMS if norm in set(rows["batch_norm"])]
    pairs = [(metric, norm) for metric in plan.files for norm in norms]
    return [(m, n, rows[(rows["metric"] == m.name) & (rows["batch_norm"] == n)]) for m, n in pairs]


def _heading(metric: Metric, norm: str) -> str:
    how = {"kept": "BatchNorm kept, as in the paper"}.get(norm, BATCH_NORMS[norm])
    return f"{metric_label('test', metric)}, {how}"


def _marked(plan: Plan, head: str) -> str:
    return f"{head} †" if head in plan.doubtful else head


def _shown(row: Any, published: bool, metric: Metric) -> str:
    if row is None:
        return ""
    if published:
        return "" if pd.isna(row["paper"]) else mean_and_deviation(row["paper"], row["paper_std"], metric)
    ours = mean_and_deviation(row["mean"], row["std"], metric)
    if pd.isna(row["difference"]):
        return ours
    sign = "+" if row["difference"] >= 0 else "-"
    return f"{ours} ({sign}{number(abs(row['difference']), metric)})"


def write(folder: Path, plan: Plan, rows: pd.DataFrame, text: str, title: str) -> list[Path]:
    """Write table.csv, table.md and the figures, and return the paths of table.csv, table.md and table.png."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"table.{ending}" for ending in ("csv", "md", "png")]
    write_frame(paths[0], rows)
    write_text(paths[1], text)
    figure(plan, rows, title, paths[2])
    return paths


def figure(plan: Plan, rows: pd.DataFrame, title: str, path: Path) -> list[Path]:
    """Draw one figure for each metric and return the paths.

    The panels show our curves, the published curves in the same colours, and our curves with recalibrated BatchNorm.
    """
    first, *others = plan.files
    paths = [path, *(path.with_stem(f"{path.stem}_{metric.name}") for metric in others)]
    styles = {head: Style.number(index) for index, head in enumerate(dict.fromkeys(rows["head"]))}
    for file, metric in zip(paths, [first, *others], strict=True):
        panels = []
        for name, norm, part in _sections(plan, rows):
            if name == metric:
                panels.append(_panel(f"ours, {BATCH_NORMS[norm]}", part, "mean", "std", styles, metric))
                if norm != "recalibrated" and part["paper"].notna().any():
                    panels.append(_panel("published", part, "paper", "paper_std", styles, metric))
        draw(panels, len(panels), f"{plan.name} · {title}", metric_label("test", metric), file, metric.top)
    return paths


def _panel(title: str, part: pd.DataFrame, mean: str, std: str, styles: Mapping[str, Style], metric: Metric) -> Panel:
    curves = []
    swept, whole = part[~_added(part)], part[_added(part)].set_index("head")["mean"]
    for head, style in styles.items():
        line = swept[(swept["head"] == head) & swept[mean].notna()].sort_values("sparsity")
        if len(line):
            x, y, deviation = 100 * line["sparsity"], metric.scale * line[mean], metric.scale * line[std]
            mark = metric.scale * whole[head] if mean == "mean" and head in whole else None
            curves.append(Curve(head, style, list(x), list(y), list(deviation), mark))
    return Panel(title, curves)
