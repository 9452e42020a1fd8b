"""What all figures share: colours, markers, axes, and files without a date in them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, which the colour-blind tell apart, without its yellow, which is too light for a line.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8B4513", "#7A7A00")
# One marker less than there are colours: the pairs repeat only after 72 columns.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GRID = "#d9d9d9"
FLOOR = "#8c8c8c"


@dataclass(frozen=True)
class Style:
    """Of one column, the same in all panels."""

    colour: str
    marker: str
    dashed: bool = False

    @classmethod
    def number(cls, index: int) -> "Style":
        return cls(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])


@dataclass(frozen=True)
class Curve:
    """One line: means over sparsity, in percent, and their standard deviations (NaN where there is none)."""

    label: str
    style: Style
    x: Sequence[float]
    y: Sequence[float]
    deviation: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    curves: Sequence[Curve]
    floors: Sequence[float] = field(default=())  # in percent


def draw(panels: Sequence[Panel], columns: int, title: str, label: str, path: Path, top: float | None = None) -> None:
    """Draw panels, `columns` in a row, with one legend for all, into a PNG; the same input gives the same bytes.

    Args:
        label: of the vertical axis.
        top: the greatest value that the metric can have; None if it has none.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.2 + 4.9 * columns, 1.3 + 3.3 * rows), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for index, panel in enumerate(panels):
        _panel(axes[index // columns][index % columns], panel, top)
    for index in range(len(panels), rows * columns):
        axes[index // columns][index % columns].set_axis_off()
    for row in axes:
        row[0].set_ylabel(label, fontsize=10)
    for column in range(columns):
        axes[(len(panels) - 1 - column) // columns][column].set_xlabel("sparsity (%)", fontsize=10)
        axes[(len(panels) - 1 - column) // columns][column].tick_params(labelbottom=True)
    _legend(figure, panels)
    save(figure, path)


def save(figure: Figure, path: Path) -> Path:
    """A PNG, never half written; the same figure gives the same bytes."""
    beside = path.with_name(path.name + ".new")
    figure.savefig(beside, format="png", metadata={"Software": None})
    beside.replace(path)
    return path


def _panel(axes: Axes, panel: Panel, top: float | None) -> None:
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlim(-2, 102)
    axes.set_xticks(range(0, 101, 10))
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
        _curve(axes, curve)


def _curve(axes: Axes, curve: Curve) -> None:
    style = curve.style
    axes.plot(
        curve.x,
        curve.y,
        color=style.colour,
        marker=style.marker,
        markersize=4.5,
        markerfacecolor="white" if style.dashed else style.colour,
        linestyle="--" if style.dashed else "-",
        linewidth=1.5,
        label=curve.label,
    )
    deviation = np.nan_to_num(np.asarray(curve.deviation, dtype=float))
    if deviation.any():
        y = np.asarray(curve.y, dtype=float)
        axes.fill_between(curve.x, y - deviation, y + deviation, color=style.colour, alpha=0.18, linewidth=0)


def _legend(figure: Figure, panels: Sequence[Panel]) -> None:
    """One entry a label, in the order of first appearance."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    longest = max(map(len, entries), default=1)
    width = figure.get_figwidth() * 14  # characters that fit beside each other, about
    columns = max(1, min(len(entries), int(width // (longest + 7))))
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=columns, fontsize=9, frameon=False
    )
