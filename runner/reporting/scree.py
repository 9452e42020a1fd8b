"""What `run scree` shows: values over the number of features kept, where to cut, and curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from runner.reporting.drawing import FLOOR, GRID, Style, save
from runner.reporting.formats import NONE, is_fraction, metric_label, number, percent, scale
from runner.reporting.writing import padded
from runner.scree.choice import elbow, fewest
from runner.scree.ordered import ALL

PCA = "PCA"
EXACT = "exact"  # networks trained at exactly that width
_KEY = ["place", "k", "metric", "split"]
_PANELS = 4  # beside each other


@dataclass(frozen=True)
class Choosing:
    """How a number of features is chosen: the smallest whose headline metric is within the tolerance of that of all.

    Args:
        tolerance: of metrics in [0, 1] in their own units, of others a fraction of the full value.
    """

    metric: str
    higher_is_better: bool
    tolerance: float

    def fewest(self, ks: Sequence[int], values: Sequence[float]) -> int | None:
        return fewest(ks, values, self.tolerance, self.higher_is_better, is_fraction(self.metric))

    @property
    def rule(self) -> str:
        if is_fraction(self.metric):
            return f"{percent(self.tolerance)} percentage point{'' if self.tolerance == 0.01 else 's'}"
        return f"{percent(self.tolerance)} %"


def table(rows: Sequence[dict[str, Any]], first: str) -> pd.DataFrame:
    """A row a place, k, metric and split, a column a kind of run (the mean over its seeds), and ratios.

    Args:
        rows: column, place, k, metric, split and value of each measurement.
        first: the column that the ratios are of: `tail/exact`, `tail/PCA`.
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
    """A row a place and curve: its elbow and the fewest features within the tolerance, both chosen on validation, and
    the headline metric there. No rows where no split is for validation."""
    rows = []
    there = wide[(wide["metric"] == choosing.metric)]
    for place in there["place"].unique():
        part = there[there["place"] == place].set_index("k")
        for column in _curves(wide):
            values = {split: part[part["split"] == split][column].dropna() for split in ("validation", "test")}
            if values["validation"].empty:
                continue
            ks, scores = list(values["validation"].index), list(values["validation"])
            row: dict[str, Any] = {"place": place, "column": column, "metric": choosing.metric, "n": ks[-1]}
            picked = {
                "full": ks[-1],
                "elbow": elbow(ks, scores, choosing.higher_is_better),
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
    """The columns that have a value at every k."""
    return [name for name in _measured(wide) if not name.startswith(EXACT)]


def _measured(wide: pd.DataFrame) -> list[str]:
    """The columns but the key and ratios; names of runs can have a slash in them, too."""
    return [name for name in wide.columns if name not in _KEY and not _is_ratio(name)]


def _is_ratio(name: str) -> bool:
    return name.endswith((f"/{EXACT}", f"/{PCA}"))


def markdown(
    wide: pd.DataFrame, chosen: pd.DataFrame, choosing: Choosing, first: str, notes: Sequence[str] = ()
) -> str:
    """Where to cut; then the headline metric on the test split, of all places together where there are several."""
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
            f"fewest: features within {choosing.rule} of the validation score of all; elbow: farthest from the chord, "
            "over log k; both chosen on validation",
            *notes,
        ]
    part = wide[(wide["place"] == shown) & (wide["metric"] == metric) & (wide["split"] == "test")]
    columns = [name for name in wide.columns if name not in _KEY]
    rows = [
        [str(row["k"]), *(number(row[name], "ratio" if _is_ratio(name) else metric) for name in columns)]
        for _, row in part.iterrows()
    ]
    lines += [f"{metric_label('test', metric)}, {shown}:", "", *padded([["k", *columns], *rows]), ""]
    ratios = {name: part[name].dropna() for name in columns if _is_ratio(name)}
    notes = [*notes, *(f"{n}: {r.min():.4f} to {r.max():.4f} at {len(r)} k" for n, r in ratios.items() if len(r))]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def _whole(value: Any) -> str:
    return NONE if pd.isna(value) else str(value)


def figures(wide: pd.DataFrame, chosen: pd.DataFrame, choosing: Choosing, first: str, folder: Path) -> list[Path]:
    """curves.png: every metric and split, all places together or the one there is; places.png: each place alone."""
    places = list(wide["place"].unique())
    shown = ALL if ALL in places else places[0]
    pairs = list(wide[["metric", "split"]].drop_duplicates().itertuples(index=False, name=None))
    paths = [folder / "curves.png"]
    _figure(wide, chosen, first, [(shown, metric, split) for metric, split in pairs], 2, paths[0])
    if len(places) > 1:
        paths.append(folder / "places.png")
        alone = [(place, choosing.metric, "test") for place in places]
        _figure(wide, chosen, first, alone, min(_PANELS, len(places)), paths[1])
    return paths


def _figure(
    wide: pd.DataFrame,
    chosen: pd.DataFrame,
    first: str,
    panels: Sequence[tuple[str, str, str]],
    columns: int,
    path: Path,
) -> None:
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(0.6 + 4.6 * columns, 0.9 + 3.4 * rows), dpi=150, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for place in axes[len(panels) :]:
        place.set_axis_off()
    for place, panel in zip(axes, panels, strict=False):
        _panel(place, wide, chosen, first, *panel)
    handles, labels = axes[0].get_legend_handles_labels()
    fit = int(14 * figure.get_figwidth() // (max(map(len, labels)) + 7))  # beside each other, about
    columns = max(1, min(len(labels), fit))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
    save(figure, path)


def _panel(
    axes: Axes, wide: pd.DataFrame, chosen: pd.DataFrame, first: str, place: str, metric: str, split: str
) -> None:
    part = wide[(wide["place"] == place) & (wide["metric"] == metric) & (wide["split"] == split)]
    axes.set_title("all places" if place == ALL else place, fontsize=10)
    axes.set_xlabel("features kept", fontsize=9)
    axes.set_ylabel(metric_label(split, metric), fontsize=9)
    names = _measured(wide)
    for index, name in enumerate(names):
        values = part[["k", name]].dropna()
        exact, style = name.startswith(EXACT), Style.number(index)
        axes.plot(
            values["k"],
            scale(metric) * values[name],
            color=style.colour,
            marker=style.marker,
            markersize=7 if exact else 3.5,
            markerfacecolor="none" if exact else style.colour,
            linestyle="" if exact else "--" if name == PCA else "-",
            linewidth=1.5,
            label=name,
            zorder=3 if exact else 2,
        )
    if len(chosen):
        _marks(axes, chosen[(chosen["place"] == place) & (chosen["column"] == first)].iloc[0])
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    smallest = float(part[names].min().min())
    # Losses over orders of magnitude, so that equal ratios look alike.
    if not is_fraction(metric) and smallest > 0:
        axes.set_yscale("log")
        few = float(part[names].max().max()) < 30 * smallest
        axes.yaxis.set_major_locator(LogLocator(10, (1, 1.5, 2, 3, 4, 6, 8) if few else (1, 3)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _marks(axes: Axes, at: Any) -> None:
    """Lines at the elbow and at the fewest features, with their names on the sides that look away from each other."""
    ks = {word: int(at[word]) for word in ("elbow", "fewest") if not pd.isna(at[word])}
    for word, k in ks.items():
        axes.axvline(k, color=FLOOR, linewidth=1, linestyle=":", zorder=1)
        left = k == min(ks.values()) and (word == "elbow" or len(set(ks.values())) > 1)
        axes.annotate(
            word,
            (k, 1),
            (-3 if left else 3, -3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=90,
            ha="right" if left else "left",
            va="top",
            color=FLOOR,
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            zorder=1.5,
        )
