"""python summary.py OUTPUTS: long.csv, long.md and long.png beside this file, from the runs there."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import runner
from runner.reporting.writing import padded

HERE = Path(__file__).parent
SHOWN = [0.0, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99]


def name(config: dict) -> str:
    dropout = config["dropout"]
    if dropout["name"] != "ramping":
        return str(dropout["name"])
    return f"ramping, {dropout['scope']}, {dropout['ramp_shape']}"


frames = []
for result in runner.find(sys.argv[1]):
    rows = result.pruning
    rows = rows[(rows.split == "test") & (rows.granularity == "weight")]
    about = {"network": result.config["model"]["name"], "run": name(result.config), "seed": result.config["seed"]}
    frames.append(rows.assign(**about, epochs=result.config["schedule"]["length"]))
points = pd.concat(frames)
points["accuracy"] *= 100
columns = [
    "network",
    "run",
    "epochs",
    "seed",
    "batch_norm",
    "floor",
    "sparsity",
    "actual_sparsity",
    "effective_sparsity",
]
points = points.sort_values(["network", "run", "seed", "batch_norm", "floor", "sparsity"])
points[[*columns, "nonzero_weights", "bytes", "accuracy", "loss"]].to_csv(HERE / "long.csv", index=False)

# Rows below a floor repeat the network pruned at the floor; the one at floor 0 and sparsity 0 is really unpruned.
cells = [["", "unpruned", *(f"{100 * s:g} %" for s in SHOWN[1:])]]
for (network, run, norm), part in points.groupby(["network", "run", "batch_norm"]):
    unpruned = part[(part.floor == 0) & (part.sparsity == 0)].accuracy
    swept = part[part.floor == part.floor.max()].groupby("sparsity").accuracy.agg(["mean", "std"])
    row = [f"{network}, {run}, {norm}", f"{unpruned.mean():.1f}"]
    cells.append(row + [f"{swept.loc[s, 'mean']:.1f}" if s in swept.index else "" for s in SHOWN[1:]])
text = "\n".join(padded(cells))
(HERE / "long.md").write_text(text + "\n")
print(text)

figure, axes = plt.subplots(figsize=(7, 4.4))
markers = iter("osv^DP")
for (network, run), part in points[points.batch_norm == "kept"].groupby(["network", "run"]):
    part = part[(part.floor == part.floor.max()) & (part.nonzero_weights > 0)]
    part = part.groupby("sparsity")[["nonzero_weights", "accuracy"]].mean().drop_duplicates()
    axes.plot(part.nonzero_weights, part.accuracy, marker=next(markers), ms=4, label=f"{network}, {run}")
axes.set_xscale("log")
axes.set(xlabel="prunable weights left", ylabel="test accuracy (%), BatchNorm kept")
axes.grid(alpha=0.3)
axes.legend(fontsize=8)
figure.tight_layout()
figure.savefig(HERE / "long.png", dpi=130, facecolor="white")
