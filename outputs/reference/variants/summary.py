"""Tables and figure of this page, of the trainings in a folder: python outputs/reference/variants/summary.py outputs"""

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from runner.reporting.pairing import half_width
from runner.runs import find_runs

HERE = Path(__file__).parent
SPARSITIES = [0.5, 0.75, 0.9, 0.99]
SCOPES = {
    ("filter", "linear"): "within a filter (the paper)",
    ("filter", "cubic"): "within a filter, cubic ramp",
    ("uniform", "linear"): "within a layer",
    ("erk", "linear"): "within a layer, ERK fractions",
    ("global", "linear"): "over all layers",
    ("global", "cubic"): "over all layers, cubic ramp",
}


def label(config: dict[str, Any]) -> str:
    dropout = config["dropout"]
    words = [dropout["name"]]
    if dropout.get("element"):
        words.append("element")
    if "L1" in str(config.get("regularizer")):
        words.append("with L1")
    rates = {"α": dropout.get("alpha"), "γ": dropout.get("gamma"), "sparsity": dropout.get("sparsity")}
    words += [f"{name} {rate:g}" for name, rate in rates.items() if rate is not None]
    return " ".join(words)


def measured(outputs: Path) -> pd.DataFrame:
    frames = []
    for run in find_runs([outputs]):
        if run.state() != "finished":
            continue
        config, rows = run.config(), pd.read_csv(run.pruning_file)
        rows = rows[(rows["split"] == "test") & (rows["scores"] == "own")]
        dropout = config["dropout"]
        key = (dropout.get("scope", "filter"), dropout.get("ramp_shape", "linear"))
        frames.append(rows.assign(variant=label(config), seed=config["seed"], rule=[key] * len(rows)))
    table = pd.concat(frames)
    table["accuracy"] *= 100
    # A network that was trained for a sparsity is also measured unpruned: the rows with floor 0.
    unpruned = (table["sparsity"] == 0) & (table["floor"] == 0)
    return table[unpruned | table["sparsity"].isin(SPARSITIES)]


def spread(values: pd.Series) -> str:
    return f"{values.mean():.1f} ± {values.std():.1f}" + ("" if len(values) == 3 else f" ({len(values)} seeds)")


def variants(table: pd.DataFrame, granularity: str, batch_norm: str) -> str:
    rows = table[(table["granularity"] == granularity) & (table["batch_norm"] == batch_norm)]
    rows = rows[rows["rule"] == ("filter", "linear")]
    cells = rows.groupby(["variant", "sparsity"])["accuracy"].agg(spread).unstack()
    at = rows[rows["sparsity"] == 0.75].set_index(["variant", "seed"])["accuracy"]
    gain = {}
    for name in cells.index if "none" in cells.index else ():
        difference = (at[name] - at["none"]).dropna()
        if name != "none" and len(difference) == 3:  # paired by seed
            gain[name] = f"{difference.mean():+.1f} ± {half_width(difference):.1f}"
    cells = cells.rename(columns={s: f"{100 * s:.0f} %" if s else "unpruned" for s in cells.columns})
    zeros = rows[rows["sparsity"] == 0].groupby("variant")["actual_sparsity"].mean()
    cells.insert(0, "zeros after training", zeros.map(lambda part: f"{100 * part:.0f} %" if part > 0.005 else ""))
    if gain:
        cells["75 % − none"] = pd.Series(gain)
    cells.to_csv(HERE / f"{granularity}-{batch_norm}.csv")
    return cells.fillna("").to_markdown()


def scopes(table: pd.DataFrame) -> str:
    rows = table[(table["variant"].str.startswith("ramping α 0.99 γ 0.99")) & (table["granularity"] == "weight")]
    rows = rows[rows["sparsity"] == 0.99]
    kept = rows[rows["batch_norm"] == "kept"].set_index(["rule", "seed"])
    recalibrated = rows[rows["batch_norm"] == "recalibrated"].set_index(["rule", "seed"])
    lines = {}
    for rule, name in SCOPES.items():
        difference = kept["accuracy"][rule] - kept["accuracy"]["filter", "linear"]
        lines[name] = {
            "weights left": f"{kept['nonzero_weights'][rule].mean():,.0f}",
            "effective sparsity": f"{100 * kept['effective_sparsity'][rule].mean():.2f} %",
            "BatchNorm kept": spread(kept["accuracy"][rule]),
            "recalibrated": spread(recalibrated["accuracy"][rule]),
            "kept − the paper's": ""
            if rule == ("filter", "linear")
            else f"{difference.mean():+.1f} ± {half_width(difference):.1f}",
        }
    frame = pd.DataFrame(lines).T
    frame.index.name = "what is compared"
    frame.to_csv(HERE / "scope.csv")
    return frame.to_markdown()


def figure(table: pd.DataFrame) -> None:
    rows = table[(table["granularity"] == "weight") & (table["rule"] == ("filter", "linear"))]
    means = rows.groupby(["batch_norm", "variant", "sparsity"])["accuracy"].mean()
    order = means["recalibrated"].unstack()[0.9].sort_values().index
    shapes = {0.5: ("o", "#0072b2"), 0.75: ("s", "#e69f00"), 0.9: ("D", "#009e73"), 0.99: ("^", "#cc79a7")}
    drawing, axes = plt.subplots(1, 2, figsize=(11, 0.3 * len(order) + 1.2), sharey=True, layout="constrained")
    for axis, batch_norm in zip(axes, ("kept", "recalibrated"), strict=True):
        for sparsity, (marker, colour) in shapes.items():
            mean = means[batch_norm].unstack()[sparsity][order]
            axis.plot(mean, order, marker, color=colour, label=f"{sparsity:.0%}")
        axis.set(xlabel="test accuracy in percent", title=f"weights pruned, BatchNorm {batch_norm}", xlim=(0, 101))
        axis.grid(axis="x", alpha=0.3)
    axes[0].legend(title="sparsity")
    drawing.savefig(HERE / "variants.png", dpi=110)


if __name__ == "__main__":
    everything = measured(Path(sys.argv[1]))
    for granularity in ("weight", "unit", "feature"):
        for batch_norm in ("kept", "recalibrated"):
            print(f"\n{granularity}, BatchNorm {batch_norm}\n\n{variants(everything, granularity, batch_norm)}")
    print(f"\nscope\n\n{scopes(everything)}")
    figure(everything)
