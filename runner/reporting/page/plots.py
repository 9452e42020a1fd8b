"""The plots on the report page, drawn by Bokeh.

Hovering over a point shows its values, and a click on a name in a legend hides its column in all plots. Plots contain
no code for the browser to evaluate, so that the page can forbid `eval`. Text from run folders is used only as data,
labels and plain text, because Bokeh would interpret `$$…$$` in other text as mathematics.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    GlyphRenderer,
    HoverTool,
    Legend,
    LegendItem,
    Line,
    PlainText,
    Scatter,
    TabPanel,
    Tabs,
    VArea,
)
from bokeh.palettes import Blues256
from bokeh.plotting import figure
from bokeh.transform import linear_cmap
from matplotlib.ticker import EngFormatter

from runner.compaction.budget import pareto
from runner.reporting.drawing import Style
from runner.reporting.formats import mean_and_deviation, metric_label, number, percent
from runner.reporting.sections import Section
from runner.reporting.sparsity_axis import SparsityAxis
from runner.tasks.metrics import Metric

Drawn = dict[str, list[GlyphRenderer]]  # column → its glyphs in a plot

_MARKERS = {
    **{"o": "circle", "s": "square", "^": "triangle", "D": "diamond", "v": "inverted_triangle", "P": "plus"},
    **{"X": "x", "*": "star", "<": "hex"},
}
_DASHES = {"-": "solid", "-.": "dashdot", ":": "dotted"}
_HEIGHT, _ENTRY = 380, 22  # height of a plot and of a line of its legend, in pixels
_POINTS = 100  # maximum number of points of a learning curve
_TOGETHER = 400  # maximum number of curves on a page for which legends hide columns in all plots
_TOOLS = "box_zoom,pan,wheel_zoom,reset,save"


class Plots:
    """A factory of plots with common column styles and linked legends.

    Args:
        columns: the names of all columns, in order.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._styles = {name: Style.number(index) for index, name in enumerate(columns)}
        self._drawn: list[tuple[figure, Drawn]] = []

    def over_sparsity(self, section: Section, metric: Metric, split: str) -> figure:
        """Plot the mean and standard deviation of each column over sparsity."""
        axis = SparsityAxis.of(100 * section.rows["sparsity"])
        plot, own = self._figure(axis.label, metric_label(split, metric))
        low, high = axis.limits
        plot.x_range.start, plot.x_range.end = low - 0.02 * (high - low), high
        self._label(plot, {float(axis.forward(tick)): f"{tick:g}" for tick in axis.ticks})
        for name in section.columns:
            rows = section.swept[section.swept["column"] == name].sort_values("sparsity")
            whole = section.unpruned[section.unpruned["column"] == name][:1]
            fractions = zip(rows["sparsity"], rows["actual_sparsity"], strict=True)
            at = [f"{percent(asked)} % ({percent(round(actual, 4))} % actual)" for asked, actual in fractions]
            self._line(plot, own, name, self._data(name, axis.forward(100 * rows["sparsity"]), at, rows, metric))
            places, rows = (
                [*axis.forward(100 * rows["sparsity"]), *[axis.limits[0]] * len(whole)],
                pd.concat([rows, whole]),
            )
            data = self._data(name, places, [*at, *["unpruned"] * len(whole)], rows, metric)
            self._marks(plot, own, name, {**data, "seeds": list(rows["n"].astype(int))}, len(whole))
        self._hover(plot, own, [("sparsity", "@at"), ("value", "@shown"), ("seeds", "@seeds")])
        return plot

    def over_epochs(self, curves: Mapping[str, pd.DataFrame], metric: Metric, label: str) -> figure:
        """Plot the mean of each column over epochs, with its standard deviation unless the axis is logarithmic.

        Args:
            curves: a frame with `epoch`, `mean` and `std` for each column.
        """
        values = np.concatenate([rows["mean"].to_numpy(dtype=float) for rows in curves.values()])
        logarithmic = metric.top is None and bool((values > 0).all())
        plot, own = self._figure("epoch", label, y_axis_type="log" if logarithmic else "linear")
        for name, rows in curves.items():
            rows = rows.iloc[:: max(1, -(-len(rows) // _POINTS))]
            data = self._data(name, rows["epoch"], list(rows["epoch"].astype(int)), rows, metric)
            self._line(plot, own, name, data, band=not logarithmic)
        self._hover(plot, own, [("epoch", "@x{0}"), ("value", "@y{0.[0000]}")])
        return plot

    def over_cost(self, points: pd.DataFrame, cost: str, label: str, metric: Metric, split: str) -> figure:
        """Plot every network as a point, and the Pareto front as a dashed line.

        Args:
            points: one row per network, with `column`, `what` (the description to display), the cost and `mean`.
        """
        plot, own = self._figure(label, metric_label(split, metric), x_axis_type="log")
        self._label(plot, _ticks(points[cost].min(), points[cost].max()))
        front = pareto(points, cost, "mean", metric.higher_is_better)
        step = "after" if len(front) > 1 else "center"
        plot.step(list(front[cost]), list(metric.scale * front["mean"]), mode=step, color="#8c8c8c", line_dash="dashed")
        for name, rows in points.groupby("column", sort=False):
            data = self._data(str(name), rows[cost], list(rows["what"]), rows, metric)
            data["cost"] = [f"{value:,.4g}" for value in rows[cost]]
            self._marks(plot, own, str(name), data)
        self._hover(plot, own, [("network", "@at"), ("cost", "@cost"), ("value", "@shown")])
        return plot

    def legends(self) -> None:
        """Add a legend to every plot. Call this after all plots have been made.

        An entry hides its column in all plots. If there are many curves, it hides it only in its own plot, because each
        entry lists the glyphs that it hides and the page would become very large.
        """
        together = sum(len(own) for _, own in self._drawn) <= _TOGETHER
        for plot, own in self._drawn:
            items = []
            for name, renderers in own.items():
                others = [drawn for other, drawn in self._drawn if other is not plot] if together else []
                elsewhere = [renderer for drawn in others for renderer in drawn.get(name, [])]
                items.append(LegendItem(label={"value": name}, renderers=[*renderers, *elsewhere]))
            longest = max(map(len, own), default=1)
            columns = max(1, min(4, 48 // longest))
            legend = Legend(items=items, click_policy="hide", ncols=columns, location="left")
            legend.border_line_color, legend.padding, legend.spacing = None, 4, 0
            legend.glyph_width = 28
            plot.add_layout(legend, "below")
            plot.height = _HEIGHT + _ENTRY * -(-len(own) // columns)

    def _figure(self, x: str, y: str, **axes: str) -> tuple[figure, Drawn]:
        plot = figure(
            height=_HEIGHT,
            sizing_mode="stretch_width",
            tools=_TOOLS,
            active_drag=None,
            toolbar_location="above",
            **axes,
        )
        plot.xaxis.axis_label, plot.yaxis.axis_label = PlainText(text=x), PlainText(text=y)
        plot.axis.axis_label_text_font_style = "normal"
        plot.toolbar.logo = None
        own: Drawn = {}
        self._drawn.append((plot, own))
        return plot, own

    def _label(self, plot: figure, ticks: Mapping[float, str]) -> None:
        plot.xaxis.ticker = plot.xgrid.ticker = FixedTicker(ticks=list(ticks))
        plot.xaxis.major_label_overrides = dict(ticks)

    def _data(self, name: str, x: Any, at: Sequence[object], rows: pd.DataFrame, metric: Metric) -> dict[str, Any]:
        """Return the data for glyphs and hover texts, where `at` describes the horizontal position of each point."""
        return {"x": np.asarray(x, dtype=float), "at": at, **_values(rows, metric)}

    def _line(self, plot: figure, own: Drawn, name: str, data: dict[str, Any], band: bool = True) -> None:
        style, source = self._style(name), ColumnDataSource({key: data[key] for key in ("x", "y", "low", "high")})
        dash = _DASHES.get(style.line, "dotdash") if isinstance(style.line, str) else "dotdash"
        line = Line(x="x", y="y", line_color=style.colour, line_width=2, line_dash=dash)
        drawn = plot.add_glyph(source, line, name=name)
        if band and np.isfinite(data["low"]).any():
            area = VArea(x="x", y1="low", y2="high", fill_color=style.colour, fill_alpha=0.15)
            own.setdefault(name, []).append(plot.add_glyph(source, area))
        own.setdefault(name, []).append(drawn)

    def _marks(self, plot: figure, own: Drawn, name: str, data: dict[str, Any], unpruned: int = 0) -> None:
        """Draw markers. The last `unpruned` ones are hollow diamonds."""
        style, usual = self._style(name), len(data["x"]) - unpruned
        data = {key: values for key, values in data.items() if key not in ("low", "high")}
        data["marker"] = [_MARKERS[style.marker]] * usual + ["diamond"] * unpruned
        data["fill"] = [style.colour] * usual + ["white"] * unpruned
        data["size"] = [8] * usual + [13] * unpruned
        mark = Scatter(x="x", y="y", marker="marker", size="size", fill_color="fill", line_color=style.colour)
        own.setdefault(name, []).append(plot.add_glyph(ColumnDataSource(data), mark, name=name))

    def _style(self, name: str) -> Style:
        return self._styles.get(name) or Style.number(len(self._styles))

    def _hover(self, plot: figure, own: Drawn, rows: Sequence[tuple[str, str]]) -> None:
        marks = [drawn[-1] for drawn in own.values()]  # the markers, or the line if there are none
        plot.add_tools(HoverTool(tooltips=[("column", "$name"), *rows], renderers=marks))


def confusion(counts: pd.DataFrame) -> figure:
    """Plot a confusion matrix from counts of (label, predicted)."""
    classes = [str(one) for one in sorted({*counts["label"], *counts["predicted"]})]
    side = min(640, 140 + 34 * len(classes))
    plot = figure(
        x_range=classes, y_range=classes[::-1], width=side, height=side, tools="save", sizing_mode="scale_width"
    )
    plot.max_width = side
    plot.toolbar.logo = None
    plot.xaxis.axis_label, plot.yaxis.axis_label = "predicted", "label"
    data = {name: list(counts[name].astype(str)) for name in ("label", "predicted")}
    source = ColumnDataSource({**data, "images": counts["images"].to_numpy()})
    fill = linear_cmap("images", Blues256[::-1], low=0, high=int(counts["images"].max()))
    cells = plot.rect("predicted", "label", 0.95, 0.95, source=source, fill_color=fill, line_color=None)
    tooltips = [("label", "@label"), ("predicted", "@predicted"), ("images", "@images")]
    plot.add_tools(HoverTool(tooltips=tooltips, renderers=[cells]))
    return plot


def tabs(panels: Mapping[str, object]) -> Tabs:
    """Return one tab per panel. Panels may be plots or tabs."""
    children = [TabPanel(child=child, title=title) for title, child in panels.items()]
    return Tabs(tabs=children, sizing_mode="stretch_width")


def _ticks(low: float, high: float) -> dict[float, str]:
    """Return the ticks of a logarithmic axis and their labels, such as `200k` and `1M`."""
    steps = (1, 2, 5) if high < 1000 * low else (1,)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return {tick: EngFormatter(sep="")(tick) for tick in ticks if low / 2 <= tick <= high * 2}


def _values(rows: pd.DataFrame, metric: Metric) -> dict[str, Any]:
    """Return the scaled means, the values one standard deviation below and above them, and the texts to display."""
    mean = rows["mean"].to_numpy(dtype=float)
    deviation = (rows["std"] if "std" in rows else rows["mean"] * np.nan).to_numpy(dtype=float)
    # A single seed has no deviation; there the band has zero width.
    known = np.where(np.isnan(deviation), 0.0, deviation) if np.isfinite(deviation).any() else deviation
    shown = [
        number(m, metric) if np.isnan(d) else mean_and_deviation(m, d, metric)
        for m, d in zip(mean, deviation, strict=True)
    ]
    return {
        "y": metric.scale * mean,
        "low": metric.scale * (mean - known),
        "high": metric.scale * (mean + known),
        "shown": shown,
    }
