"""python summary.py OUTPUTS: long.csv, long.md and long.png beside this file, from the runs there.

Rows of long.csv whose run is not there are kept: trainings of an hour each were not all made on one machine.
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import runner
from runner.reporting.points import is_unpruned
from runner.reporting.writing import padded

HERE = Path(__file__).parent
SHOWN = [0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.991]
RUN = ["network", "run", "epochs", "seed"]


def name(config: dict) -> str:
    dropout = config["dropout"]
    if dropout["name"] != "ramping":
        return str(dropout["name"])
    start = ", from a trained network" if config["init"] else ""
    return f"ramping, {dropout['scope']}, {dropout['ramp_shape']}{start}"


frames = []
for result in runner.find(sys.argv[1]):
    rows, config = result.pruning, result.config
    rows = rows[(rows.split != "train") & (rows.granularity == "weight")]
    about = {"network": config["model"]["name"], "run": name(config), "seed": config["seed"]}
    frames.append(rows.assign(**about, epochs=config["schedule"]["length"], accuracy=100 * rows.accuracy))
points = pd.concat(frames)
before = pd.read_csv(HERE / "long.csv")
made = before.set_index(RUN).index.isin(points.set_index(RUN).index)
points = pd.concat([points, before[~made]])
columns = [*RUN, "split", "batch_norm", "floor", "sparsity", "actual_sparsity", "effective_sparsity"]
points = points.sort_values([*RUN, "split", "batch_norm", "floor", "sparsity"])
points[[*columns, "nonzero_weights", "bytes", "accuracy", "loss"]].to_csv(HERE / "long.csv", index=False)

# Rows below a floor repeat the network pruned at the floor; those at floor 0 and sparsity 0 are really unpruned.
cells = [["", "unpruned", *(f"{100 * s:g} %" for s in SHOWN)]]
for (network, run, epochs, split, norm), part in points.groupby([*RUN[:3], "split", "batch_norm"]):
    unpruned = part[is_unpruned(part)].accuracy
    swept = part[part.floor == part.floor.max()].groupby("sparsity").accuracy.mean()
    row = [f"{network}, {run}, {epochs}, {split}, {norm}", f"{unpruned.mean():.1f}"]
    cells.append(row + [f"{swept[s]:.1f}" if s in swept.index else "" for s in SHOWN])
text = "\n".join(padded(cells))
(HERE / "long.md").write_text(text + "\n")
print(text)

figure, axes = plt.subplots(figsize=(7, 4.4))
markers = iter("osv^DP")
shown = points[(points.batch_norm == "kept") & (points.split == "test")]
for (_network, run, epochs), part in shown.groupby(RUN[:3]):
    part = part[(part.floor == part.floor.max()) & (part.nonzero_weights > 0)]
    part = part.groupby("sparsity")[["nonzero_weights", "accuracy"]].mean().drop_duplicates()
    axes.plot(part.nonzero_weights, part.accuracy, marker=next(markers), ms=4, label=f"{run}, {epochs}")
axes.set_xscale("log")
axes.set(xlabel="prunable weights left", ylabel="test accuracy (%), BatchNorm kept")
axes.grid(alpha=0.3)
axes.legend(fontsize=8)
figure.tight_layout()
figure.savefig(HERE / "long.png", dpi=130, facecolor="white")
