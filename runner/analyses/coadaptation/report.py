"""The report of `run coadapt`: the paper's table 1 and figure 1, and the matrices as files."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import floor, log10
from pathlib import Path
from re import sub
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from runner.analyses.coadaptation.blocks import Blocks
from runner.analyses.coadaptation.dependence import Dependence
from runner.config.rules import leaves
from runner.files import write_bytes
from runner.ranking import count
from runner.reporting.drawing import save
from runner.reporting.finding import matches
from runner.reporting.formats import mean_and_deviation, percent
from runner.reporting.published import FOLDER
from runner.reporting.writing import padded
from runner.tasks.metrics import Metric

# The configuration of the paper's table 1.
_TOY = {"data": "cifar10", "model": "mlp", "model.widths": [10]}
_PUBLISHED = {"None": "none", "Targeted Dropout": "targeted"}
_SPARSITY = 0.75
_WORDS = ("kind", "column", "layers", "split", "seed", "n")
_PARTS = ("kept", "between", "pruned")
_BRIGHT = 0.999  # fraction of entries within the colour scale; a few are many times as large
_LINEAR = 0.01  # limit of the scale's linear part, as a fraction of its maximum
_INCHES = 4.2  # size of a panel


@dataclass(frozen=True)
class Result:
    """The measurements of one run."""

    column: str  # name of the group of runs that differ only in their seed
    config: Mapping[str, Any]
    split: str
    examples: int
    found: Dependence

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def title(self) -> str:
        return f"{self.column}, seed {self.seed}"


def table(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row per run, then mean and standard deviation (n − 1) of multi-seed groups, then the paper's rows.

    The column `kind` is run, mean, std or paper. For each block, `sum` is Σ θ_i H_ij θ_j and `square` is Σ(θ_i H_ij
    θ_j)², both over all weights, and `abs` is Σ|θ_i H_ij θ_j| over the weights in the matrix. Shares are fractions of
    the sum of the three blocks.
    """
    rows = [{"kind": "run", "column": one.column, "seed": one.seed, "n": 1, **_numbers(one)} for one in results]
    runs = pd.DataFrame(rows)
    for column, part in runs.groupby("column", sort=False):
        if len(part) > 1:
            same = {"column": column, "n": len(part), "layers": part["layers"].iloc[0], "split": part["split"].iloc[0]}
            numbers = part.drop(columns=list(_WORDS))
            for kind, values in (("mean", numbers.mean()), ("std", numbers.std())):
                rows.append({"kind": kind, **same, **{str(name): value for name, value in values.items()}})
    rows += _paper(results)
    return pd.DataFrame(rows).astype({"seed": "Int64", "n": "Int64"})


def _numbers(one: Result) -> dict[str, Any]:
    found, squares = one.found, one.found.squares
    return {
        "layers": " ".join(found.shapes),
        "weights": found.weights,
        "split": one.split,
        "examples": one.examples,
        "sparsity": found.sparsity,
        "predicted": abs(found.predicted),
        "measured": abs(found.measured),
        "gradient_term": found.gradient_term,
        "curvature_term": found.curvature_term,
        "loss": found.before.loss,
        "loss_pruned": found.after.loss,
        "accuracy": found.before.accuracy,
        "accuracy_pruned": found.after.accuracy,
        "shown": len(found.shown.members) if found.shown else 0,
        "probes": squares.probes if squares else float("nan"),
        **_blocks("abs_share", found.shown.absolute.shares if found.shown else None),
        **_blocks("square_share", squares.values.shares if squares else None),
        **_blocks("square_share_error", squares.share_errors if squares else None),
        **_blocks("square", squares.values if squares else None),
        **_blocks("square_error", squares.errors if squares else None),
        **_blocks("sum", found.sums),
    }


def _blocks(name: str, blocks: Blocks | None) -> dict[str, float]:
    values = asdict(blocks) if blocks else dict.fromkeys(_PARTS, float("nan"))
    return {f"{name}_{part}": value for part, value in values.items()}


def _paper(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the rows of the paper's table 1 that match a run."""
    with (FOLDER / "paper1.csv").open(newline="") as file:
        published = list(csv.DictReader(file))
    rows = []
    for row in published:
        wanted = {**_TOY, "dropout": _PUBLISHED[row["Regularisation"]]}
        if any(_as_the_paper(one) and matches(dict(leaves(one.config)), wanted) for one in results):
            accuracies = [float(row[f"{head} Accuracy"].rstrip("%")) / 100 for head in ("Unpruned", "Pruned")]
            names = ("predicted", "accuracy", "accuracy_pruned")
            values = dict(zip(names, (float(row["|dE|"]), *accuracies), strict=True))
            rows.append({"kind": "paper", "column": row["Regularisation"], "sparsity": _SPARSITY, **values})
    return rows


def _as_the_paper(one: Result) -> bool:
    return (one.split, one.found.sparsity) == ("test", _SPARSITY)


def markdown(rows: pd.DataFrame, results: Sequence[Result], notes: Sequence[str] = ()) -> str:
    """Return Markdown tables of the changes due to pruning and of the dependence by block, with notes."""
    change = [["", "predicted abs(ΔE)", "measured abs(ΔE)", "−∇Eᵀd", "½ dᵀHd", "accuracy %", "pruned %"]]
    where = [["", *(f"{what} {part}" for what in ("Σ abs(M) %", "Σ M² %", "Σ M") for part in _PARTS)]]
    deviations = rows[rows["kind"] == "std"].set_index("column")
    for _, row in rows[rows["kind"] != "std"].iterrows():
        label = _label(row)
        spread = deviations.loc[row["column"]] if row["kind"] == "mean" else None

        def cell(name: str, error: str = "", fraction: bool = False, row: Any = row, spread: Any = spread) -> str:
            std = float(spread[name]) if spread is not None else float(row[error]) if error else float("nan")
            return mean_and_deviation(float(row[name]), std, Metric(name, percent=fraction))

        numbers = ("predicted", "measured", "gradient_term", "curvature_term")
        fractions = ("accuracy", "accuracy_pruned")
        change.append([label, *(cell(name) for name in numbers), *(cell(name, fraction=True) for name in fractions)])
        if row["kind"] != "paper":
            shares = [cell(f"abs_share_{part}", fraction=True) for part in _PARTS]
            squares = [cell(f"square_share_{part}", f"square_share_error_{part}", fraction=True) for part in _PARTS]
            where.append([label, *shares, *squares, *(cell(f"sum_{part}") for part in _PARTS)])
    lines = ["## Effect of pruning, and dependence between weights", "", *padded(change), ""]
    lines += ["Distribution of M = θᵀ ⊙ H ⊙ θ over the blocks:", "", *padded(where), ""]
    return "\n".join([*lines, *(f"- {note}" for note in [*_notes(rows, results), *notes])]) + "\n"


def _label(row: Any) -> str:
    if row["kind"] == "paper":
        return f"paper: {row['column']}"
    return f"{row['column']}, {row['n']} seeds" if row["kind"] == "mean" else f"{row['column']}, seed {row['seed']}"


def _notes(rows: pd.DataFrame, results: Sequence[Result]) -> list[str]:
    notes = []
    for one in results:
        found = one.found
        layers = ", ".join(found.shapes) if len(found.shapes) <= 4 else f"{len(found.shapes)} layers"
        of = f"{one.column}: " if len({(s.found.weights, s.examples) for s in results}) > 1 else ""
        notes.append(
            f"{of}{found.weights:,} weights of {layers}; the smallest {percent(found.sparsity)} % of "
            f"every filter pruned; loss: mean cross-entropy of {one.examples:,} {one.split} examples"
        )
        if found.shown:
            every = len(found.shown.members) == found.weights
            which = "all weights" if every else f"{len(found.shown.members):,} weights at evenly spaced ranks"
            notes.append(f"{of}Σ abs(M) over {which}, sorted by descending magnitude")
        if found.squares:
            how = f"estimated with {found.squares.probes} probes, ± standard error" if found.squares.probes else "exact"
            notes.append(f"{of}Σ M² over all weights, {how}; Σ M over all weights, exact")
    notes.append("kept: both weights stay; between: one is pruned; pruned: both are; d: the pruned weights")
    if (rows["kind"] == "mean").any():
        notes.append("several seeds: mean ± standard deviation")
    if (rows["kind"] == "paper").any():
        notes.append("paper: table 1, abs(ΔE) by eq. 3; the pruned layers and the batch size are not given")
    return list(dict.fromkeys(notes))


def save_matrix(one: Result, folder: Path) -> Path:
    """Save the matrix and related data as NumPy arrays without pickles, and return the file's path.

    The arrays are `matrix` (m, m), sorted by descending magnitude; `theta`, `gradient` and `pruned` (m,); `layer` (m,),
    indices into the names `layers`; `index` (m,), indices into the layers' weights, flattened in contiguous order; and
    `sparsity`, a scalar.
    """
    shown = one.found.shown
    assert shown is not None
    sizes = [shape.numel() for shape in one.found.shapes.values()]
    members = _numpy(shown.members)
    ends = np.cumsum(sizes)
    layer = np.searchsorted(ends, members, side="right")
    content = io.BytesIO()
    np.savez_compressed(
        content,
        matrix=_numpy(shown.matrix),
        theta=_numpy(shown.theta),
        gradient=_numpy(shown.gradient),
        pruned=_numpy(shown.pruned),
        layer=layer,
        index=members - (ends - sizes)[layer],
        layers=np.array(list(one.found.shapes)),
        sparsity=np.array(one.found.sparsity),
    )
    path = folder / f"{sub(r'[^A-Za-z0-9_.=-]+', '-', one.title)}.npz"
    write_bytes(path, content.getvalue())
    return path


def picture(results: Sequence[Result], path: Path) -> Path:
    """Draw figure 1: one matrix per run on a common colour scale, with groups as columns and seeds as rows.

    A frame marks the block of kept weights.
    """
    shown = [one for one in results if one.found.shown]
    columns = list(dict.fromkeys(one.column for one in shown))
    seeds = sorted({one.seed for one in shown})
    figure = Figure(figsize=(_INCHES * len(columns) + 1, _INCHES * len(seeds) + 0.3), dpi=150, layout="constrained")
    axes = figure.subplots(len(seeds), len(columns), squeeze=False)
    for place in axes.flat:
        place.set_axis_off()
    matrices = {one.title: _numpy(one.found.shown.matrix) for one in shown if one.found.shown}
    end = max(float(np.quantile(np.abs(matrix), _BRIGHT)) for matrix in matrices.values()) or 1.0
    norm = SymLogNorm(linthresh=_LINEAR * end, vmin=-end, vmax=end)
    for one in shown:
        place = axes[seeds.index(one.seed)][columns.index(one.column)]
        image = _panel(place, one, matrices[one.title], norm)
    # Matplotlib's default ticks overlap around 0.
    powers = [10.0**power for power in range(floor(log10(_LINEAR * end)) + 1, floor(log10(end)) + 1)]
    bar = figure.colorbar(image, ax=axes, shrink=0.8, extend="both", ticks=[*(-p for p in powers), 0.0, *powers])
    bar.set_label(r"$\theta_i\,H_{ij}\,\theta_j$")
    return save(figure, path)


def _panel(axes: Axes, one: Result, matrix: Any, norm: SymLogNorm) -> Any:
    axes.set_axis_on()
    axes.set_title(f"{one.title}, abs(ΔE) {abs(one.found.predicted):.3g}", fontsize=10)
    axes.set_xlabel("weights by descending magnitude", fontsize=9)
    axes.tick_params(labelsize=8)
    image = axes.imshow(matrix, cmap="RdBu_r", norm=norm)
    kept = len(matrix) - count(one.found.sparsity, len(matrix))
    axes.add_patch(Rectangle((-0.5, -0.5), kept, kept, fill=False, linewidth=1.2, edgecolor="black"))
    return image


def _numpy(tensor: Tensor) -> Any:
    return tensor.numpy(force=True)
