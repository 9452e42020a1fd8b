"""The report of `run scree`: metrics over the number of kept features, suggested cuts, and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from runner.analyses.scree.choice import elbow, fewest
from runner.analyses.scree.cuts import ALL
from runner.reporting.drawing import FLOOR, GRID, Style, save
from runner.reporting.formats import NONE, metric_label, number, percent
from runner.reporting.writing import padded
from runner.tasks.metrics import Metric, by_name

PCA = "PCA"
EXACT = "exact"  # networks trained at exactly that width
_KEY = ["place", "k", "metric", "split"]
_PANELS = 4  # maximum number per row
_LEAST_POINTS = 20.0  # minimum range of a vertical axis in percentage points
_LEAST_RATIO = 2.0  # minimum ratio of the ends of a loss's axis


@dataclass(frozen=True)
class Choosing:
    """The rule that chooses the smallest number of features whose metric is within a tolerance of that of all features.

    Args:
        metric: the headline metric.
        tolerance: in the metric's units for metrics in [0, 1], otherwise a fraction of the value for all features.
        declared: all metrics of the task, by name.
    """

    metric: Metric
    tolerance: float
    declared: Mapping[str, Metric] = field(default_factory=dict)

    def of(self, name: str) -> Metric:
        """Return the metric with the given name, as declared by the task."""
        return self.declared.get(name, by_name(name))

    def fewest(self, ks: Sequence[int], values: Sequence[float]) -> int | None:
        return fewest(ks, values, self.tolerance, self.metric.higher_is_better, self.metric.percent)

    @property
    def rule(self) -> str:
        if self.metric.percent:
            return f"{percent(self.tolerance)} percentage point{'' if self.tolerance == 0.01 else 's'}"
        return f"{percent(self.tolerance)} %"


def table(rows: Sequence[dict[str, Any]], first: str) -> pd.DataFrame:
    """Return one row per place, k, metric and split, with each column's mean over seeds, and ratios.

    Args:
        rows: the column, place, k, metric, split and value of each measurement.
        first: the column that is divided by others in ratios such as `tail/exact` and `tail/PCA`.
    """
    frame = pd.DataFrame(rows)
    columns = sorted(frame["column"].unique(), key=lambda name: (name == PCA, str(name).startswith(EXACT)))
    order = {name: rank for name in ("place", "metric") for rank, name in enumerate(frame[name].unique())}
    order |= {"validation": 0, "test": 1}
    wide = frame.groupby([*_KEY, "column"], sort=False)["value"].mean().unstack()[columns].reset_index()
    wide.columns.name = None
    for column in (EXACT, PCA):
        if column in wide:
            wide[f"{first}/{column}"] = wide[first] / wide[column]
    return wide.sort_values(_KEY, key=lambda s: s if s.name == "k" else s.map(order), ignore_index=True)


def choices(wide: pd.DataFrame, choosing: Choosing) -> pd.DataFrame:
    """Return one row per place and curve, with the elbow and the fewest features within the tolerance.

    Both are chosen on validation data and listed with the headline metric. Without a validation split, there are no
    rows.
    """
    rows = []
    there = wide[(wide["metric"] == choosing.metric.name)]
    for place in there["place"].unique():
        part = there[there["place"] == place].set_index("k")
        for column in _curves(wide):
            values = {split: part[part["split"] == split][column].dropna() for split in ("validation", "test")}
            if values["validation"].empty:
                continue
            ks, scores = list(values["validation"].index), list(values["validation"])
            row: dict[str, Any] = {"place": place, "column": column, "metric": choosing.metric.name, "n": ks[-1]}
            picked = {
                "full": ks[-1],
                "elbow": elbow(ks, scores, choosing.metric.higher_is_better),
                "fewest": choosing.fewest(ks, scores),
            }
            for name, k in picked.items():
                row[name] = k
                row |= {f"{name}_{split}": values[split].get(k, float("nan")) for split in values}
            rows.append(row)
    columns = [f"{name}{of}" for name in ("full", "elbow", "fewest") for of in ("", "_validation", "_test")]
    frame = pd.DataFrame(rows, columns=["place", "column", "metric", "n", *columns])
    return frame.astype({"elbow": "Int64", "fewest": "Int64"})


def _curves(wide: pd.DataFrame) -> list[str]:
    """Return the columns with a value at every k."""
    return [name for name in _measured(wide) if not name.startswith(EXACT)]


def _measured(wide: pd.DataFrame) -> list[str]:
    """Return all columns except the key and the ratios. Names of runs may contain a slash, like those of ratios."""
    return [name for name in wide.columns if name not in _KEY and not _is_ratio(name)]


def _is_ratio(name: str) -> bool:
    return name.endswith((f"/{EXACT}", f"/{PCA}"))


def markdown(
    wide: pd.DataFrame, chosen: pd.DataFrame, choosing: Choosing, first: str, notes: Sequence[str] = ()
) -> str:
    """Return Markdown tables of the suggested cuts and of the headline metric on the test split.

    If there are several places, the second table covers all of them together.
    """
    metric, places = choosing.metric, list(wide["place"].unique())
    shown = ALL if ALL in places else places[0]
    lines = ["## The first k features", ""]
    if len(chosen):
        head = ["place", "", "features", metric_label("test", metric), "elbow", "there", "fewest", "there"]
        rows = [
            [
                *(str(row["place"]), str(row["column"]), str(row["n"]), number(row["full_test"], metric)),
                *(
                    cell
                    for name in ("elbow", "fewest")
                    for cell in (_whole(row[name]), number(row[f"{name}_test"], metric))
                ),
            ]
            for _, row in chosen.iterrows()
        ]
        lines += [*padded([head, *rows]), ""]
        notes = [
            f"fewest: the fewest features within {choosing.rule} of the validation score of all features; elbow: the "
            "point farthest from the chord, over log k; both are chosen on validation data",
            *notes,
        ]
    part = wide[(wide["place"] == shown) & (wide["metric"] == metric.name) & (wide["split"] == "test")]
    columns = [name for name in wide.columns if name not in _KEY]
    rows = [
        [str(row["k"]), *(number(row[name], Metric("ratio") if _is_ratio(name) else metric) for name in columns)]
        for _, row in part.iterrows()
    ]
    lines += [f"{metric_label('test', metric)}, {shown}:", "", *padded([["k", *columns], *rows]), ""]
    ratios = {name: part[name].dropna() for name in columns if _is_ratio(name)}
    notes = [*notes, *(f"{n}: {r.min():.4f} to {r.max():.4f} at {len(r)} k" for n, r in ratios.items() if len(r))]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def _whole(value: Any) -> str:
    return NONE if pd.isna(value) else str(value)


def figures(wide: pd.DataFrame, chosen: pd.DataFrame, choosing: Choosing, first: str, folder: Path) -> list[Path]:
    """Draw the figures and return their paths.

    curves.png shows every metric and split for all places together (or the only place), and places.png shows each place
    alone.
    """
    places = list(wide["place"].unique())
    shown = ALL if ALL in places else places[0]
    pairs = list(wide[["metric", "split"]].drop_duplicates().itertuples(index=False, name=None))
    paths = [folder / "curves.png"]
    _figure(wide, chosen, first, [(shown, choosing.of(metric), split) for metric, split in pairs], 2, paths[0])
    if len(places) > 1:
        paths.append(folder / "places.png")
        alone = [(place, choosing.metric, "test") for place in places]
        _figure(wide, chosen, first, alone, min(_PANELS, len(places)), paths[1])
    return paths


def _figure(
    wide: pd.DataFrame,
    chosen: pd.DataFrame,
    first: str,
    panels: Sequence[tuple[str, Metric, str]],
    columns: int,
    path: Path,
) -> None:
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(0.6 + 4.6 * columns, 0.9 + 3.4 * rows), dpi=150, layout="constrained")
    shared = len({panel[1:] for panel in panels}) == 1
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=shared).flat)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    for index, (place, panel) in enumerate(zip(axes, panels, strict=False)):
        _panel(place, wide, chosen, first, *panel)
        _value_axis(place, [_values(wide, *other) for other in (panels if shared else [panel])], panel[1])
        if index % columns == 0 or not shared:
            place.set_ylabel(metric_label(panel[2], panel[1]), fontsize=9)
    entries = {
        label: handle for place in axes for handle, label in zip(*place.get_legend_handles_labels(), strict=True)
    }
    fit = int(14 * figure.get_figwidth() // (max(map(len, entries)) + 8))  # approximate number per line
    columns = max(1, min(len(entries), fit))
    how = {"ncols": columns, "fontsize": 9, "frameon": False, "handlelength": 3}
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", **how)
    save(figure, path)


def _values(wide: pd.DataFrame, place: str, metric: Metric, split: str) -> pd.DataFrame:
    """Return the data for a panel: the measured columns by `k`, in the units used for printing."""
    part = wide[(wide["place"] == place) & (wide["metric"] == metric.name) & (wide["split"] == split)].set_index("k")
    return metric.scale * part[_measured(wide)]


def _panel(
    axes: Axes, wide: pd.DataFrame, chosen: pd.DataFrame, first: str, place: str, metric: Metric, split: str
) -> None:
    part = _values(wide, place, metric, split)
    axes.set_title("all places" if place == ALL else place, fontsize=10)
    axes.set_xlabel("features kept", fontsize=9)
    for index, name in enumerate(part):
        exact, style = str(name).startswith(EXACT), Style.number(index)
        axes.plot(
            part[name].dropna(),
            color=style.colour,
            marker=style.marker,
            markersize=7 if exact else 3.5,
            markerfacecolor="none" if exact else style.colour,
            linestyle="" if exact else "--" if name == PCA else style.line,
            linewidth=1.5,
            label=name,
            zorder=3 if exact else 2,
        )
    if len(chosen):
        _marks(axes, chosen[(chosen["place"] == place) & (chosen["column"] == first)].iloc[0])
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _value_axis(axes: Axes, shown: Sequence[pd.DataFrame], metric: Metric) -> None:
    """Scale the vertical axis to the data, but not so finely that a difference of 1 % looks large."""
    values = np.concatenate([part.to_numpy().ravel() for part in shown])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if metric.percent:
        low = max(0.0, min(low, high - _LEAST_POINTS))
        high = max(high, low + _LEAST_POINTS)
    # Losses have a logarithmic axis, on which equal ratios look the same.
    elif low > 0:
        factor = max(1.0, _LEAST_RATIO * low / high) ** 0.5
        low, high = low / factor, high * factor
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(10, (1, 1.5, 2, 3, 4, 6, 8) if high < 30 * low else (1, 3)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    transform = axes.yaxis.get_transform()
    bottom, top = transform.transform(np.array([low, high]))
    margin = 0.05 * (top - bottom) or 0.5
    axes.set_ylim(*transform.inverted().transform(np.array([bottom - margin, top + margin])))


def _marks(axes: Axes, at: Any) -> None:
    """Draw labelled lines at the elbow and at the fewest features. Both remain visible if they coincide."""
    for word, line, size, face in (("elbow", ":", 8, "white"), ("fewest", "--", 4, FLOOR)):
        if not pd.isna(at[word]):
            axes.plot(
                [int(at[word])] * 2,
                [0, 1],
                transform=axes.get_xaxis_transform(),
                color=FLOOR,
                linewidth=1,
                linestyle=line,
                marker="o",
                markersize=size,
                markerfacecolor=face,
                markevery=[1],
                clip_on=False,
                label=f"{at['column']}: {word}",
                zorder=1.5,
            )
