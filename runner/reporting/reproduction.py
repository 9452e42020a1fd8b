"""A published table's cells, ours beside them, and the difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from runner.config.rules import between, list_of, show
from runner.errors import ConfigError
from runner.reporting.points import read_points
from runner.reporting.published import published_files, published_heads, published_values
from runner.runs import Run, write_text


@dataclass(frozen=True)
class Cell:
    """A column of a published table, or the part of it that one training serves."""

    head: str
    overrides: tuple[str, ...]
    sparsities: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """What a table file says of a published table."""

    name: str
    granularity: str
    base: tuple[str, ...]
    file: str
    cells: tuple[Cell, ...]
    doubtful: Mapping[str, str]  # head → why
    notes: tuple[str, ...]  # where the set-up is not the paper's

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "Plan":
        """From the configuration's `table` part.

        Raises:
            ConfigError: the table file has no cells, or names a published column that there is not.
        """
        if "cells" not in table:
            raise ConfigError(f"table={table['name']}: allowed is a published table, one with cells; run list table")
        file, files = table["published_file"], published_files()
        if file not in files:
            raise ConfigError(f"table.published_file={file}: allowed is {', '.join(files)}")
        heads, fractions = published_heads(file), list_of(between(0, 1))
        for cell in table["cells"]:
            if cell["head"] not in heads:
                raise ConfigError(f"table.cells: {cell['head']} is no published column; allowed is {', '.join(heads)}")
            if allowed := fractions(cell["sparsities"]):
                raise ConfigError(f"table.cells.sparsities={show(cell['sparsities'])}: allowed is {allowed}")
        cells = [Cell(c["head"], tuple(c["overrides"]), tuple(map(float, c["sparsities"]))) for c in table["cells"]]
        return cls(
            name=table["name"],
            granularity=table["granularity"],
            base=tuple(table["base"]),
            file=file,
            cells=tuple(cells),
            doubtful=table["doubtful"],
            notes=tuple(table["notes"]),
        )


def rows_of(plan: Plan, runs: Sequence[tuple[Cell, Sequence[Run]]], metric: str) -> pd.DataFrame:
    """All cells in long form: head, batch_norm, sparsity, actual_sparsity, mean, std, n, paper, paper_std, difference.

    Fractions, not percent; deviations over seeds with n − 1; `difference` is ours less the paper's, for BatchNorm kept
    (or a model without it), which is how the paper measured.
    """
    frames = [_cell(plan, cell, done, metric) for cell, done in runs]
    rows = pd.concat(frames, ignore_index=True)
    for head in rows["head"].unique():
        paper = published_values(plan.file, head, in_percent=True)
        here = rows["head"] == head
        rows.loc[here, "paper"] = rows.loc[here, "sparsity"].map(paper["mean"])
        rows.loc[here, "paper_std"] = rows.loc[here, "sparsity"].map(paper["std"])
    as_paper = rows["batch_norm"] != "recalibrated"
    rows["difference"] = (rows["mean"] - rows["paper"]).where(as_paper)
    rows["doubtful"] = rows["head"].map(lambda head: plan.doubtful.get(head, ""))
    return rows


def _cell(plan: Plan, cell: Cell, runs: Sequence[Run], metric: str) -> pd.DataFrame:
    points = pd.concat([_at_its_floor(read_points(run), run) for run in runs], ignore_index=True)
    wanted = {"granularity": plan.granularity, "scope": "layer", "scores": "own", "split": "test"}
    for column, value in wanted.items():
        points = points[points[column] == value]
    points = points[points["sparsity"].isin([round(s, 9) for s in cell.sparsities])]
    rows = points.groupby(["batch_norm", "sparsity"], as_index=False).agg(
        actual_sparsity=("actual_sparsity", "mean"), mean=(metric, "mean"), std=(metric, "std"), n=(metric, "count")
    )
    rows.insert(0, "head", cell.head)
    return rows


def _at_its_floor(points: pd.DataFrame, run: Run) -> pd.DataFrame:
    """The rows of the sweep that the run's own configuration asks for: later ones may have had other floors."""
    asked = run.status().get("swept", {}).get("floor", "auto")
    floors = points["floor"].unique()
    gamma = run.config()["dropout"].get("gamma", 0.0)
    own = gamma if asked == "auto" and gamma in floors else 0.0 if asked == "auto" else float(asked)
    return points[points["floor"] == own]


def markdown(plan: Plan, rows: pd.DataFrame, title: str) -> str:
    """One table a way with BatchNorm, in percent; ours with its deviation and the difference, then the paper's."""
    parts = [f"# {plan.name}", title]
    for norm, part in rows.groupby("batch_norm", sort=True):
        as_paper = norm != "recalibrated"
        heads = list(dict.fromkeys(rows["head"]))
        shown = [word for head in heads for word in ([_marked(plan, head), "paper"] if as_paper else [head])]
        lines = [f"| sparsity | {' | '.join(shown)} |", f"|---:|{'---:|' * len(shown)}"]
        for sparsity in sorted(part["sparsity"].unique()):
            cells = []
            for head in heads:
                found = part[(part["head"] == head) & (part["sparsity"] == sparsity)]
                cells += _shown(found.iloc[0] if len(found) else None, as_paper)
            lines.append(f"| {100 * sparsity:g} % | {' | '.join(cells)} |")
        how = {"kept": "BatchNorm kept, as in the paper", "recalibrated": "BatchNorm recalibrated"}
        parts += [f"## {how.get(str(norm), 'No BatchNorm')}", "\n".join(lines)]
    notes = [f"- † {head}: {why}." for head, why in plan.doubtful.items()] + [f"- {note}." for note in plan.notes]
    parts.append("\n".join(["In percent: ours ± deviation over seeds (difference to the paper).", *notes]))
    return "\n\n".join(parts) + "\n"


def _marked(plan: Plan, head: str) -> str:
    return f"{head} †" if head in plan.doubtful else head


def _shown(row: Any, as_paper: bool) -> list[str]:
    if row is None:
        return ["", ""] if as_paper else [""]
    ours = f"{100 * row['mean']:.2f}" + (f" ± {100 * row['std']:.2f}" if row["n"] > 1 else "")
    if not as_paper:
        return [ours]
    if pd.isna(row["paper"]):
        return [ours, ""]
    spread = "" if pd.isna(row["paper_std"]) else f" ± {100 * row['paper_std']:.2f}"
    return [f"{ours} ({100 * row['difference']:+.1f})", f"{100 * row['paper']:.2f}{spread}"]


def write(folder: Path, plan: Plan, rows: pd.DataFrame, text: str) -> list[Path]:
    """table.csv and table.md."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "table.csv", folder / "table.md"]
    write_text(paths[0], rows.to_csv(index=False))
    write_text(paths[1], text)
    return paths
