"""python summary.py OUTPUTS [NAME]: NAME.csv and NAME.png beside this file, from the pruning.csv of the runs there."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import runner

HERE = Path(__file__).parent
NAME = sys.argv[2] if len(sys.argv) > 2 else "criteria"
CRITERIA = ["magnitude", "wanda", "taylor", "hessian", "random"]

frames = []
for result in runner.find(sys.argv[1]):
    rows = result.pruning
    rows = rows[(rows.floor == 0) & (rows.split == "test") & (rows.granularity == "weight") & (rows.sparsity > 0)]
    about = {"dropout": result.config["dropout"]["name"], "seed": result.config["seed"]}
    frames.append(rows[rows.scores.isin(CRITERIA)].assign(**about))
points = pd.concat(frames).rename(columns={"scores": "criterion"})
points["accuracy"] *= 100
key = ["batch_norm", "criterion", "sparsity"]
table = points.groupby([*key, "dropout"]).accuracy.agg(["mean", "std"]).unstack("dropout")
table.columns = [f"{dropout}_{what}" for what, dropout in table.columns]
paired = points.pivot_table(index=[*key, "seed"], columns="dropout", values="accuracy")
difference = (paired["targeted"] - paired["none"]).groupby(level=key).agg(["mean", "std", "count"])
table = table.join(difference.add_prefix("difference_")).round(2)
table.to_csv(HERE / f"{NAME}.csv")

norms = table.index.levels[0]
figure, panels = plt.subplots(1, len(norms), figsize=(1 + 5 * len(norms), 4.8), sharey=True, squeeze=False)
panels = panels[0]
for panel, norm in zip(panels, norms, strict=True):
    colors = ["#0072B2", "#009E73", "#D55E00", "#CC79A7", "#777777"]
    for color, marker, criterion in zip(colors, "osv^x", CRITERIA, strict=True):
        part = table.loc[norm, criterion]
        for dropout, line in (("none", "--"), ("targeted", "-")):
            label = f"{criterion}, {dropout}"
            panel.plot(100 * part.index, part[f"{dropout}_mean"], line, color=color, marker=marker, ms=4, label=label)
    panel.set(title="no BatchNorm" if norm == "none" else f"BatchNorm {norm}", xlabel="weights pruned at once (%)")
    panel.grid(alpha=0.3)
panels[0].set_ylabel("test accuracy (%), mean of 3 seeds")
figure.legend(*panels[0].get_legend_handles_labels(), fontsize=8, ncol=5 if len(norms) > 1 else 3, loc="lower center")
figure.tight_layout(rect=(0, 0.11 if len(norms) > 1 else 0.19, 1, 1))
figure.savefig(HERE / f"{NAME}.png", dpi=130, facecolor="white")
