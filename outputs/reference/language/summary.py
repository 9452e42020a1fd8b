"""Gather the swept runs below a folder into language.csv, language.png and samples.txt beside this file.

python outputs/reference/language/summary.py outputs
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from runner.runs import find_runs

HERE = Path(__file__).parent
COLUMNS = ["scores", "granularity", "sparsity", "actual_sparsity", "bits_per_byte", "perplexity", "loss", "examples"]


def name_of(run):
    dropout = run.config()["dropout"]
    return f"{dropout['name']} γ {dropout['gamma']:.2f}" if "gamma" in dropout else dropout["name"]


runs = {name_of(run): run for run in find_runs([sys.argv[1]]) if run.state() == "finished"}
parts = [pd.read_csv(run.pruning_file).assign(dropout=name) for name, run in runs.items()]
rows = pd.concat(parts)
rows = rows[rows["scores"] != "own"].drop_duplicates(["dropout", *COLUMNS[:3]])[["dropout", *COLUMNS]]
rows.sort_values(["dropout", *COLUMNS[:3]]).to_csv(HERE / "language.csv", index=False, lineterminator="\n")

figure, axis = plt.subplots(figsize=(7, 4.5))
weights = rows[rows["granularity"] == "weight"]
for (dropout, scores), part in weights.groupby(["dropout", "scores"]):
    style = {"magnitude": ":", "wanda": "--", "sparsegpt": "-"}[scores]
    colour = f"C{list(runs).index(dropout)}"
    part = part.sort_values("sparsity")
    axis.plot(100 * part["sparsity"], part["bits_per_byte"], style, color=colour, label=f"{dropout}, {scores}")
axis.set(xlabel="weights removed, %", ylabel="test bits per byte (lower is better)")
axis.legend(fontsize=8)
axis.grid(alpha=0.3)
figure.tight_layout()
figure.savefig(HERE / "language.png", dpi=130, facecolor="white")

lines = []
for name, run in runs.items():
    for block in run.samples_file.read_text().split("== ")[1:]:
        if any(f"sparsity {s} " in block for s in ("0", "0.5", "0.75", "0.9")):
            lines.append(f"== {name}, {block}")
(HERE / "samples.txt").write_text("".join(lines).rstrip() + "\n")
