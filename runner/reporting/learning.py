"""Learning curves of training metrics, with one curve per column and one panel per metric and split."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from runner.errors import damaged
from runner.files import read_rows
from runner.reporting.drawing import GRID, Curve, Style, legend, plot, save
from runner.reporting.formats import metric_label
from runner.runs import Run
from runner.tasks.metrics import LOSS, Metric

SPLITS = ("train", "validation")
_MARKS = 8  # markers per curve


def read_metrics(runs: Sequence[Run]) -> pd.DataFrame:
    """Read the metrics.csv files of runs, with one row per run and epoch. The frame is empty if there are none.

    Empty cells, e.g. the validation metrics of runs without validation examples, become NaN.

    Raises:
        DamagedRun: a value is not a number.
    """
    rows = []
    for run in runs:
        try:
            rows += [
                {name: float(value or "nan") for name, value in row.items()} for row in read_rows(run.metrics_file)
            ]
        except ValueError as error:
            raise damaged(run.metrics_file, error) from None
    return pd.DataFrame(rows, dtype=float)


def learning_curves(metrics: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the per-epoch mean and standard deviation over seeds of a column of metrics.csv.

    Args:
        metrics: as returned by `read_metrics`.
    """
    if not {"epoch", column} <= set(metrics) or metrics[column].isna().all():
        return pd.DataFrame(columns=["epoch", "mean", "std"], dtype=float)
    return metrics.dropna(subset=[column]).groupby("epoch")[column].agg(["mean", "std"]).reset_index()


def learning_figure(columns: Mapping[str, Sequence[Run]], metric: Metric, title: str, paths: Sequence[Path]) -> bool:
    """Draw the loss and the headline metric on training and validation examples over epochs.

    Training metrics are measured during the epoch, with dropout and augmentation; validation metrics are measured at
    its end, without them. Losses have a logarithmic axis.

    Args:
        columns: for each column name, the runs that differ only in their seed, in the order of the table's columns.
        paths: the PNG and SVG files to write.

    Returns:
        Whether there was anything to draw. Run folders may lack metrics.csv.
    """
    panels = []
    metrics = {name: read_metrics(runs) for name, runs in columns.items()}
    for split, one in ((split, one) for one in dict.fromkeys((LOSS, metric)) for split in SPLITS):
        curves = [
            _curve(name, Style.number(index), learning_curves(rows, f"{split}_{one.name}"), one)
            for index, (name, rows) in enumerate(metrics.items())
        ]
        if curves := [curve for curve in curves if len(curve.x)]:
            panels.append((split, one, curves))
    if not panels:
        return False
    figure = Figure(figsize=(1.2 + 4.4 * min(2, len(panels)), 1.3 + 3 * -(-len(panels) // 2)), dpi=150)
    figure.set_layout_engine("constrained")
    figure.suptitle(title, fontsize=11)
    grid = figure.subplots(-(-len(panels) // 2), min(2, len(panels)), squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (split, one, curves) in zip(grid.flat, panels, strict=False):
        axes.set_ylabel(metric_label(split, one), fontsize=10)
        axes.set_xlabel("epoch", fontsize=10)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
        logarithmic = one == LOSS and all(y > 0 for curve in curves for y in curve.y)
        if logarithmic:
            axes.set_yscale("log")
        for curve in curves:  # a band that reaches below 0 can't be drawn on a logarithmic axis
            plot(axes, replace(curve, deviation=()) if logarithmic else curve, _MARKS)
    legend(figure)
    for path in paths:
        save(figure, path)
    return True


def _curve(name: str, style: Style, rows: pd.DataFrame, metric: Metric) -> Curve:
    y, deviation = (list(metric.scale * rows[column]) for column in ("mean", "std"))
    return Curve(name, style, list(rows["epoch"]), y, deviation)
