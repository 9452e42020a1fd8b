"""Colours, markers, axes and file output of all figures."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from runner.files import write_bytes
from runner.reporting.formats import UNPRUNED
from runner.reporting.sparsity_axis import SparsityAxis

# The colour-blind-safe palette of Okabe and Ito. Its yellow is too light for a line and is replaced by Tol's wine.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255")
# There is one more marker than there are colours, so that pairs of both repeat only after 72 columns.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")
# One line style per cycle through the colours; "--" is reserved for dashed styles, see `Style.dashed`.
LINES = ("-", "-.", ":", (0, (3, 1, 1, 1, 1, 1)))
STYLES = len(COLOURS) * len(LINES)  # columns that can be distinguished
GRID = "#d9d9d9"
FLOOR = "#8c8c8c"
_UNPRUNED_MARK: Any = {"marker": "d", "markersize": 7, "markerfacecolor": "white", "linestyle": "", "zorder": 3}

Line = str | tuple[int, tuple[float, ...]]  # as Matplotlib's linestyle


@dataclass(frozen=True)
class Style:
    """The style of a column, which is the same in all panels."""

    colour: str
    marker: str
    line: Line = "-"
    dashed: bool = False  # dashed with hollow markers, for a curve that is compared with the column

    @classmethod
    def number(cls, index: int) -> "Style":
        """Return the style of a column by its index. The first STYLES have different pairs of colour and line style."""
        line = LINES[index // len(COLOURS) % len(LINES)]
        return cls(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], line)


@dataclass(frozen=True)
class Curve:
    """A curve: means and standard deviations (NaN if undefined) over the sparsity in percent or over a cost."""

    label: str
    style: Style
    x: Sequence[float]
    y: Sequence[float]
    deviation: Sequence[float] = ()
    unpruned: float | None = None  # value of the unpruned network, if the curve begins at a floor


@dataclass(frozen=True)
class Panel:
    """One panel of a figure, i.e. a pair of axes with curves."""

    title: str
    curves: Sequence[Curve]
    floors: Sequence[float] = field(default=())  # in percent


def draw(
    panels: Sequence[Panel],
    columns: int,
    title: str,
    label: str,
    path: Path | Sequence[Path],
    top: float | None = None,
    cost: str | None = None,
) -> None:
    """Draw panels with a common legend and save the figure. The output is deterministic.

    Args:
        columns: the number of panels per row.
        label: the label of the vertical axis.
        path: one or several files, PNG or SVG depending on the extension.
        top: the maximum of the metric, or None if it is unbounded.
        cost: the label of the logarithmic horizontal axis, if it shows a cost instead of the sparsity.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.2 + 4.9 * columns, 1.3 + 3.3 * rows), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    xs = np.array([x for panel in panels for curve in panel.curves for x in curve.x])
    for index, panel in enumerate(panels):
        _panel(axes[index // columns][index % columns], panel, top)
    scale = SparsityAxis.of(xs)
    _cost_axis(axes[0][0], xs) if cost else _sparsity_axis(axes[0][0], scale)
    for index in range(len(panels), rows * columns):
        axes[index // columns][index % columns].set_axis_off()
    for row in axes:
        row[0].set_ylabel(label, fontsize=10)
    for column in range(columns):
        axes[(len(panels) - 1 - column) // columns][column].set_xlabel(cost or scale.label, fontsize=10)
        axes[(len(panels) - 1 - column) // columns][column].tick_params(labelbottom=True)
    unpruned = any(curve.unpruned is not None for panel in panels for curve in panel.curves)
    legend(figure, {UNPRUNED: Line2D([], [], color=FLOOR, **_UNPRUNED_MARK)} if unpruned else {})
    for one in [path] if isinstance(path, Path) else path:
        save(figure, one)


def save(figure: Figure, path: Path) -> Path:
    """Save a figure atomically as SVG if the path ends in .svg, else as PNG. The output is deterministic.

    The background is white regardless of Matplotlib's settings.
    """
    content = io.BytesIO()
    kind = "svg" if path.suffix == ".svg" else "png"
    # Otherwise the ids in an SVG are random, and removing the layout engine would choose another one.
    with rc_context({"svg.hashsalt": "run", "figure.autolayout": False, "figure.constrained_layout.use": False}):
        metadata: dict[str, Any] = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(content, format=kind, metadata=metadata, facecolor="white")
        figure.set_layout_engine(None)  # the layout takes as long as drawing, so later files reuse it
    write_bytes(path, content.getvalue())
    return path


def _panel(axes: Axes, panel: Panel, top: float | None) -> None:
    axes.set_title(panel.title, fontsize=10)
    if top is not None:
        axes.set_ylim(0, 1.03 * top)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    for floor in panel.floors:
        axes.axvline(floor, color=FLOOR, linewidth=1, linestyle=":", zorder=1)
        left = floor < 50
        axes.annotate(
            "floor",
            (floor, 0),
            (2 if left else -3, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            horizontalalignment="left" if left else "right",
            color=FLOOR,
            fontsize=8,
        )
    for curve in panel.curves:
        plot(axes, curve)


def _sparsity_axis(axes: Axes, scale: SparsityAxis) -> None:
    """Scale the horizontal axis. All panels use the same scale."""
    if scale.shift is not None:
        axes.set_xscale("function", functions=(scale.forward, scale.inverse))
    axes.set_xlim(*scale.inverse(scale.limits))
    axes.xaxis.set_major_locator(FixedLocator(scale.ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _cost_axis(axes: Axes, costs: NDArray[np.float64]) -> None:
    """Scale the horizontal axis logarithmically, with ticks such as 200k and 1M."""
    low, high = costs.min(), costs.max()
    margin = max((high / low) ** 0.04, (10 * low / high) ** 0.5 if high < 10 * low else 1.0)
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if high < 40 * low else (1, 3) if high < 1000 * low else (1,))
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_locator(NullLocator())


def plot(axes: Axes, curve: Curve, marks: int | None = None) -> None:
    """Plot one curve with its standard deviation, and with about `marks` markers if given."""
    style = curve.style
    axes.plot(
        curve.x,
        curve.y,
        color=style.colour,
        marker=style.marker,
        markevery=None if marks is None else max(1, len(curve.x) // marks),
        markersize=4.5,
        markerfacecolor="white" if style.dashed else style.colour,
        linestyle="--" if style.dashed else style.line,
        linewidth=1.5,
        label=curve.label,
    )
    if curve.unpruned is not None:
        on_the_left = axes.get_yaxis_transform()  # the axis may begin at another sparsity than 0
        axes.plot([0], [curve.unpruned], color=style.colour, transform=on_the_left, clip_on=False, **_UNPRUNED_MARK)
    deviation = np.nan_to_num(np.asarray(curve.deviation, dtype=float))
    if deviation.any():
        y = np.asarray(curve.y, dtype=float)
        axes.fill_between(curve.x, y - deviation, y + deviation, color=style.colour, alpha=0.18, linewidth=0)


def legend(figure: Figure, more: Mapping[str, Artist] = MappingProxyType({})) -> None:
    """Add a legend with one entry per label, in order of first appearance, followed by the entries in `more`."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    entries |= more
    longest = max(map(len, entries), default=1)
    width = figure.get_figwidth() * 14  # approximate number of characters per line
    columns = max(1, min(len(entries), int(width // (longest + 7))))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=columns,
        fontsize=9,
        frameon=False,
        handlelength=3,
    )
