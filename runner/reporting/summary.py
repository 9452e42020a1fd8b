"""The text table printed at the end of `run train`: a run's headline metric over sparsity."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from runner.reporting.formats import NONE, UNPRUNED, granularity_label, metric_label, number, percent, run_title
from runner.reporting.points import shown_points
from runner.runs import Run
from runner.tasks.metrics import Metric

WIDTH = 100


@dataclass(frozen=True)
class _Block:
    """The columns of one sweep under a common heading."""

    heading: str
    names: list[str]
    cells: dict[str, list[str]]  # requested sparsity in percent or "unpruned" → cells

    @property
    def widths(self) -> list[int]:
        cells = [max(len(row[i]) for row in self.cells.values()) for i in range(len(self.names))]
        widths = [max(len(name), cell) for name, cell in zip(self.names, cells, strict=True)]
        widths[-1] += max(0, len(self.heading) - sum(widths) - 2 * (len(widths) - 1))
        return widths

    def line(self, texts: Sequence[str]) -> str:
        return "  ".join(text.rjust(width) for text, width in zip(texts, self.widths, strict=True))

    def row(self, name: str) -> str:
        return self.line(self.cells.get(name, [NONE] * len(self.names)))

    @property
    def width(self) -> int:
        return len(self.line(self.names))


def pruning_summary(run: Run) -> str:
    """Return a text table of the headline metric on the test split, or on the first measured split if there is no test.

    It has one row per sparsity and, for each sweep, columns with the actual sparsity and the metric in each BatchNorm
    mode. Sweeps stand side by side as long as the table is at most 100 characters wide.
    """
    points, whole, metric, split = shown_points(run)
    sweeps = [sweep for _, sweep in points.groupby(["granularity", "scope", "scores", "floor"], sort=False)]
    if not (points["floor"] > 0).any():
        whole = whole[:0]
    blocks = [_block(sweep, whole[whole["granularity"] == sweep["granularity"].iloc[0]], metric) for sweep in sweeps]
    lines = [f"{metric_label(split, metric)} after pruning: {run_title(run.config())}"]
    for side_by_side in _fitting(blocks):
        lines += ["", *_table(side_by_side)]
    return "\n".join([*lines, *_floor_note(points)])


def sweep_label(sweep: pd.DataFrame) -> str:
    """Describe what a sweep prunes, with its scope and scores if they are not the usual ones.

    Example: `weights, global, random scores`.
    """
    first = sweep.iloc[0]
    words = [granularity_label(first["granularity"])]
    if first["scope"] != "layer":
        words.append(first["scope"])
    if first["scores"] != "own":
        words.append(f"{first['scores']} scores")
    return ", ".join(words)


def _block(sweep: pd.DataFrame, whole: pd.DataFrame, metric: Metric) -> _Block:
    norms = [name for name in ("none", "kept", "recalibrated") if name in set(sweep["batch_norm"])]
    cells: dict[str, list[str]] = {}
    rows = [(percent(row["sparsity"]), row) for _, row in sweep.iterrows()]
    rows += [(UNPRUNED, row) for _, row in whole.iterrows() if row["batch_norm"] in norms]
    for name, row in rows:
        texts = cells.setdefault(name, ["", *(NONE for _ in norms)])
        texts[0] = f"{100 * row['actual_sparsity']:.2f}"
        texts[1 + norms.index(row["batch_norm"])] = number(row[metric.name], metric)
    heading = sweep_label(sweep)
    floor = sweep["floor"].iloc[0]
    if floor > 0:
        heading += f", floor {percent(floor)} %"
    return _Block(heading, ["actual %", *(n if n != "none" else metric.name for n in norms)], cells)


def _fitting(blocks: Sequence[_Block]) -> list[list[_Block]]:
    """Group blocks into rows that each contain as many blocks as fit into the width."""
    groups: list[list[_Block]] = [[]]
    for block in blocks:
        used = len("sparsity %") + sum(3 + b.width for b in [*groups[-1], block])
        if groups[-1] and used > WIDTH:
            groups.append([])
        groups[-1].append(block)
    return groups


def _table(blocks: Sequence[_Block]) -> list[str]:
    def line(first: str, rest: Sequence[str]) -> str:
        return "   ".join([first.rjust(len("sparsity %")), *rest]).rstrip()

    names = {name for block in blocks for name in block.cells}
    rows = sorted(names, key=lambda name: -1.0 if name == UNPRUNED else float(name))
    return [
        line("", [block.heading.ljust(block.width) for block in blocks]),
        line("sparsity %", [block.line(block.names) for block in blocks]),
        *(line(name, [block.row(name) for block in blocks]) for name in rows),
    ]


def _floor_note(points: pd.DataFrame) -> list[str]:
    """Return a note if some rows are below their floor."""
    floors = sorted(points.loc[points["sparsity"] < points["floor"], "floor"].unique())
    if not floors:
        return []
    shown = " or ".join(f"{percent(floor)} %" for floor in floors)
    return ["", f"Rows below {shown} are of the network pruned at its floor, {shown} (prune.floor; auto is γ)."]
