"""The figure pruning.png, which shows a run's headline metric over sparsity."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import pandas as pd

from runner.reporting.drawing import Curve, Panel, Style, draw
from runner.reporting.formats import (
    BATCH_NORMS,
    granularity_label,
    metric_label,
    percent,
    run_title,
)
from runner.reporting.points import shown_points
from runner.runs import Run
from runner.tasks.metrics import Metric

_RULES = ["scope", "scores", "floor"]


def pruning_figure(run: Run) -> None:
    """Draw the run's pruning.png, with one panel per granularity.

    Lines are solid for kept and dashed for recalibrated BatchNorm statistics. A vertical dotted line marks the floor:
    points to its left belong to the network pruned at the floor, and a diamond shows the unpruned network. Sweeps with
    different scopes, scores or floors have different colours.
    """
    points, whole, metric, split = shown_points(run)
    styles: dict[str, Style] = {}
    panels = [
        Panel(
            title=f"{granularity_label(str(granularity))} pruned",
            curves=[
                _curve(line, whole, str(norm), styles.setdefault(label, Style.number(len(styles))), label, metric)
                for rules, sweep in part.groupby(_RULES, sort=False)
                for label in [_label(rules, part)]
                for norm, line in sweep.groupby("batch_norm", sort=True)
            ],
            floors=floors_of(part),
        )
        for granularity, part in points.groupby("granularity", sort=False)
    ]
    draw(panels, len(panels), run_title(run.config()), metric_label(split, metric), run.pruning_figure, metric.top)


def floors_of(points: pd.DataFrame) -> list[float]:
    """Return the floors that have points below them, in percent."""
    return [100 * float(floor) for floor in sorted(points.loc[points["sparsity"] < points["floor"], "floor"].unique())]


def _label(rules: Sequence[Hashable], points: pd.DataFrame) -> str:
    """Return a label with whichever of scope, scores and floor differ between the sweeps in a panel."""
    scope, scores, floor = rules
    words = {"scope": str(scope), "scores": f"{scores} scores", "floor": f"floor {percent(float(str(floor)))} %"}
    return ", ".join(word for column, word in words.items() if points[column].nunique() > 1)


def _curve(line: pd.DataFrame, whole: pd.DataFrame, norm: str, style: Style, label: str, metric: Metric) -> Curve:
    line = line.sort_values("sparsity")
    first = line.iloc[0]
    whole = whole[(whole["granularity"] == first["granularity"]) & (whole["batch_norm"] == norm)]
    has_mark = first["floor"] > 0 and len(whole)
    return Curve(
        label=", ".join(filter(None, [BATCH_NORMS.get(norm, norm), label])),
        style=replace(style, dashed=norm == "recalibrated"),
        x=list(100 * line["sparsity"]),
        y=list(metric.scale * line[metric.name]),
        unpruned=metric.scale * whole[metric.name].iloc[0] if has_mark else None,
    )
