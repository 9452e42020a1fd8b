"""python plane.py OUTPUTS: plane.csv and plane.png beside this file, from the runs of targeted dropout there."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import runner

HERE = Path(__file__).parent

rows = []
for result in runner.find(sys.argv[1], dropout="targeted"):
    dropout, points = result.config["dropout"], result.pruning
    points = points[(points.split == "test") & (points.granularity == "weight")]
    for norm, part in points.groupby("batch_norm"):
        unpruned = part[(part.floor == 0) & (part.sparsity == 0)].accuracy.iloc[0]
        swept = part[part.floor == part.floor.max()].set_index("sparsity").accuracy
        about = {
            "alpha": dropout["alpha"],
            "gamma": dropout["gamma"],
            "seed": result.config["seed"],
            "batch_norm": norm,
        }
        rows.append({**about, "unpruned": unpruned, "at_gamma": swept[0.0], "at_0.9": swept[0.9]})
table = pd.DataFrame(rows).sort_values(["batch_norm", "alpha", "gamma"])
measured = ["unpruned", "at_gamma", "at_0.9"]
table[measured] = (100 * table[measured]).round(2)
table.to_csv(HERE / "plane.csv", index=False)

titles = ["unpruned", "pruned at its own γ", "pruned at 90 %"]
figure, panels = plt.subplots(2, 3, figsize=(11, 6.4), sharex=True, sharey=True, layout="constrained")
for row, norm in zip(panels, ("kept", "recalibrated"), strict=True):
    for axes, name, title in zip(row, measured, titles, strict=True):
        grid = table[table.batch_norm == norm].pivot_table(index="alpha", columns="gamma", values=name)
        image = axes.imshow(grid, origin="lower", cmap="cividis", vmin=0, vmax=100)
        for y, line in enumerate(grid.to_numpy()):
            for x, value in enumerate(line):
                axes.text(
                    x, y, f"{value:.1f}", ha="center", va="center", fontsize=9, color="black" if value > 50 else "white"
                )
        axes.set_title(f"{title}, BatchNorm {norm}", fontsize=10)
        axes.set_xticks(range(grid.shape[1]), [f"{gamma:g}" for gamma in grid.columns])
        axes.set_yticks(range(grid.shape[0]), [f"{alpha:g}" for alpha in grid.index])
for axes in panels[1]:
    axes.set_xlabel("targeted fraction γ")
for axes in panels[:, 0]:
    axes.set_ylabel("drop rate α")
figure.colorbar(image, ax=panels, label="test accuracy (%)", shrink=0.7)
figure.savefig(HERE / "plane.png", dpi=110, facecolor="white")
