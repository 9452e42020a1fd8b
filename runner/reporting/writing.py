"""Write tables as CSV, Markdown and LaTeX, and draw their figures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from runner.files import write_frame, write_text
from runner.reporting.curves import floors_of
from runner.reporting.drawing import STYLES, Curve, Panel, Style, draw
from runner.reporting.formats import (
    COSTS,
    COUNTS,
    NONE,
    UNPRUNED,
    difference_and_interval,
    mean_and_deviation,
    metric_label,
    percent,
)
from runner.reporting.learning import learning_figure
from runner.reporting.sections import Section, Table
from runner.tasks.metrics import Metric

FIGURES = ("png", "svg")
DIFFERENCES = "differences.csv"
_GREEK = {"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "λ": "lambda", "μ": "mu"}
_GREEK |= {"ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "varphi"}
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
_LATEX |= {
    "“": "``",
    "”": "''",
    "–": "--",
    "−": "$-$",
    "·": r"$\cdot$",
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$"},
    **{sign: rf"$\{name}$" for sign, name in _GREEK.items()},
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write table.csv, table.md, table.tex, table.png and table.svg, and return the paths.

    If the runs have learning curves, learning.png and learning.svg are written as well, and differences.csv if the
    table has a baseline. There are no figures if the table has too many columns to distinguish.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"table.{ending}" for ending in ("csv", "md", "tex")]
    write_frame(paths[0], table.rows)
    write_text(paths[1], markdown(table))
    write_text(paths[2], latex(table))
    if table.baseline is None:
        (folder / DIFFERENCES).unlink(missing_ok=True)  # of an older table
    else:
        write_frame(folder / DIFFERENCES, table.differences)
        paths.append(folder / DIFFERENCES)
    if len(table.own_columns) > STYLES:
        for older in (folder / f"{name}.{ending}" for name in ("table", "learning") for ending in FIGURES):
            older.unlink(missing_ok=True)
        return paths
    learning = [folder / f"learning.{ending}" for ending in FIGURES]
    drawn = learning_figure(table.runs, table.metric, figure_title(table), learning)
    for older in [] if drawn else learning:
        older.unlink(missing_ok=True)
    return [*paths, *table_figure(table, folder), *(learning if drawn else [])]


def markdown(table: Table) -> str:
    """Return all sections and notes as Markdown."""
    lines = [f"## {table.title}"]
    for section in table.sections:
        for title, rows in _titled(section, table):
            lines += ["", f"### {title}", "", *padded(rows)]
    if table.notes:
        lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    r"""Return one table environment per section. The document needs only \usepackage{booktabs}."""
    # DataFrame.to_latex would require jinja2, and it neither draws a rule above the seeds nor escapes Greek letters.
    parts = ["% needs \\usepackage{booktabs}"]
    for section, (title, text) in [(one, titled) for one in table.sections for titled in _titled(one, table)]:
        head, *body, seeds = [" & ".join(map(_escaped, row)) + r" \\" for row in text]
        columns = "r" * len(text[0])
        caption = _escaped(f"{table.title}: {title}. {' '.join(section.notes)}".strip())
        rows = [r"\toprule", head, r"\midrule", *body, r"\midrule", seeds, r"\bottomrule"]
        parts += [
            *("", r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\begin{{tabular}}{{{columns}}}"),
            *(*rows, r"\end{tabular}", r"\end{table}"),
        ]
    return "\n".join(parts) + "\n"


def cells(section: Section, metric: Metric) -> list[list[str]]:
    """Return the rows of a section as text.

    These are the header, a row for the unpruned networks if necessary, one row per sparsity, and the number of seeds.
    """
    parts = [(UNPRUNED, section.unpruned)] if len(section.unpruned) else []
    parts += [(f"{percent(float(str(s)))} %", rows) for s, rows in section.swept.groupby("sparsity")]
    body = [[name, *_cells(rows, section.columns, metric)] for name, rows in parts]
    return [
        ["sparsity", *section.columns],
        *body,
        ["seeds", *(_numbers(section.rows, column) for column in section.columns)],
    ]


def _titled(section: Section, table: Table) -> list[tuple[str, list[list[str]]]]:
    """Return the titles and cells of a section's tables: its means and, with a baseline, its differences."""
    tables = [(section.title, cells(section, table.metric))]
    if table.baseline is not None and section.differences is not None:
        title = f"{section.title}: difference from {table.baseline}, paired by seed"
        tables.append((title, difference_cells(section, section.differences, table.baseline, table.metric)))
    return tables


def difference_cells(section: Section, apart: pd.DataFrame, baseline: str, metric: Metric) -> list[list[str]]:
    """Return the differences of a section's own columns from the baseline as text, with the number of pairs last."""
    published = [column.label for column in section.published]
    columns = [name for name in section.columns if name not in (baseline, *published)]
    body = []
    for (_, sparsity), rows in apart.groupby([~apart["unpruned"], "sparsity"]):
        values = zip(rows["column"], rows["difference"], rows["interval"], strict=True)
        shown = {name: difference_and_interval(float(mean), float(half), metric) for name, mean, half in values}
        name = UNPRUNED if rows["unpruned"].all() else f"{percent(float(str(sparsity)))} %"
        body.append([name, *(shown.get(column, NONE) for column in columns)])
    return [["sparsity", *columns], *body, ["seeds", *(_numbers(apart, column) for column in columns)]]


def _cells(rows: pd.DataFrame, columns: Sequence[str], metric: Metric) -> list[str]:
    """Return the cells of one table row."""
    values = zip(rows["column"], rows["mean"], rows["std"], strict=True)
    first: dict[str, str] = {}
    for column, mean, deviation in values:
        first.setdefault(column, mean_and_deviation(float(mean), float(deviation), metric))
    return [first.get(column, NONE) for column in columns]


def table_figure(table: Table, folder: Path) -> list[Path]:
    """Draw the table's curves in table.png and table.svg, with one panel per section.

    Published curves are dashed and have the same colour as the column that they are compared with.
    """
    styles = {name: Style.number(index) for index, name in enumerate(table.own_columns)}
    panels = [
        Panel(
            title=section.title,
            curves=[_curve(section, column, styles, table.metric) for column in section.columns]
            if table.x == "sparsity"
            else _cost_curves(section, styles, table),
            floors=floors_of(section.rows) if table.x == "sparsity" else (),
        )
        for section in table.sections
    ]
    panels = [panel for panel in panels if panel.curves]
    paths = [folder / f"table.{ending}" for ending in FIGURES]
    if not panels:
        for path in paths:
            path.unlink(missing_ok=True)
        return []
    per_row = max(1, len(panels) if len(panels) < 3 else 2)
    label = metric_label(table.split, table.metric)
    draw(panels, per_row, figure_title(table), label, paths, table.metric.top, {**COSTS, **COUNTS}.get(table.x))
    return paths


def figure_title(table: Table) -> str:
    """Return the title, e.g. `digits · resnet32 · 50ep · mean ± standard deviation of 3 seeds`."""
    numbers = sorted({int(n) for n in table.rows["n"].dropna()})
    seeds = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
    more = "" if numbers == [1] else f"mean ± standard deviation of {seeds} seeds"
    return " · ".join(filter(None, [table.common, more]))


def _curve(section: Section, column: str, styles: dict[str, Style], metric: Metric) -> Curve:
    rows = section.swept[section.swept["column"] == column]
    whole = section.unpruned.loc[section.unpruned["column"] == column, "mean"]
    style = replace(styles[rows["beside"].iloc[0]], dashed=bool(rows["source"].iloc[0]))
    factor = metric.scale
    x, y, deviation = list(100 * rows["sparsity"]), list(factor * rows["mean"]), list(factor * rows["std"])
    return Curve(column, style, x, y, deviation, unpruned=factor * whole.iloc[0] if len(whole) else None)


def _cost_curves(section: Section, styles: dict[str, Style], table: Table) -> list[Curve]:
    """Return curves over a cost. Unpruned networks are treated as ordinary points; published curves are left out."""
    curves = []
    for column in section.columns:
        rows = section.rows[(section.rows["column"] == column) & (section.rows[table.x] > 0)]  # logarithmic axis
        rows = rows.sort_values(table.x).drop_duplicates([table.x, "mean"])
        if len(rows):
            y, deviation = (list(table.metric.scale * rows[name]) for name in ("mean", "std"))
            curves.append(Curve(column, styles[column], list(rows[table.x]), y, deviation))
    return curves


def _numbers(rows: pd.DataFrame, column: str) -> str:
    """Return how many seeds a column has, as a range if it depends on the row."""
    numbers = sorted({int(n) for n in rows.loc[rows["column"] == column, "n"].dropna()})
    return "–".join(str(n) for n in dict.fromkeys([numbers[0], numbers[-1]])) if numbers else NONE


def padded(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, header first, with cells padded for readability in a terminal."""
    # DataFrame.to_markdown would require tabulate.
    rows = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"| {' | '.join(cell.rjust(w) for cell, w in zip(row, widths, strict=True))} |" for row in rows]
    return [lines[0], f"|{'|'.join('-' * (w + 1) + ':' for w in widths)}|", *lines[1:]]


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
