"""python summary.py OUTPUTS: methods.csv, .md and .png beside this file, from the pruning.csv of runs there.

Mean and deviation over seeds of the test error at k = 2, 4, 8, 16, 32 features of the code, and the mean of the paired
differences to `tail` of the same cost in percent, over the seeds that both have.
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import runner

HERE = Path(__file__).parent
STEPS_PER_EPOCH = 421
KS = [2, 4, 8, 16, 32]

rows = []
for result in runner.find(sys.argv[1]):
    dropout, code, points = result.config["dropout"], result.config["model"]["code"], result.pruning
    points = points[(points.split == "test") & (points.granularity == "feature")]
    name = dropout["name"]
    if name == "tail" and dropout["p"] != 0.5:
        continue
    if name == "none":
        # Of a network without dropout its own width, not the narrower ones that it is cut to.
        measured = {code: float(result.pruning.query("split == 'test' and sparsity == 0").mse.iloc[0])}
    else:
        measured = {round(32 * (1 - row.sparsity)): row.mse for row in points.itertuples()}
    passes = {"matryoshka": len(dropout.get("widths", ())), "slimmable": 2 + dropout.get("random", 0)}.get(name, 1)
    epochs = round(result.metrics.iloc[-1].step / STEPS_PER_EPOCH, 1)
    about = {"method": "exact widths" if name == "none" else name, "epochs": epochs, "passes": round(passes * epochs)}
    seed = result.config["seed"]
    rows += [{**about, "seed": seed, "k": k, "mse": mse} for k, mse in measured.items() if k in KS]
table = pd.DataFrame(rows)
table.to_csv(HERE / "methods.csv", index=False, float_format="%.6g")

key = ["method", "epochs", "passes"]
lines = [
    "| method | epochs | passes | seeds | " + " | ".join(f"k = {k}" for k in KS) + " |",
    "|---|---:|---:|---:|" + 5 * "---:|",
]
for (method, epochs, passes), part in table.groupby(key, sort=False):
    base = table[(table.method == "tail") & (table.passes == passes)].set_index(["seed", "k"]).mse
    cells = []
    for k in KS:
        own = part[part.k == k].set_index("seed").mse
        if own.empty:
            cells.append("–")
            continue
        cell = f"{own.mean():.4f}" + (f" ± {own.std():.4f}" if len(own) > 1 else "")
        paired = [100 * (own[seed] / base[seed, k] - 1) for seed in own.index if (seed, k) in base.index]
        if paired and method != "tail":
            cell += f" ({sum(paired) / len(paired):+.1f} %)"
        cells.append(cell)
    lines.append(f"| {method} | {epochs:g} | {passes} | {part.seed.nunique()} | " + " | ".join(cells) + " |")
(HERE / "methods.md").write_text("\n".join(lines) + "\n")
print("\n".join(lines))

figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
styles = {
    "tail": ("#D55E00", "o"),
    "nested": ("#0072B2", "s"),
    "ordered": ("#009E73", "^"),
    "matryoshka": ("#CC79A7", "D"),
}
styles |= {"slimmable": ("#E69F00", "v"), "exact widths": ("black", "x")}
for (method, epochs, passes), part in table.groupby(key, sort=False):
    curve = part.groupby("k").mse.agg(["mean", "std"])
    colour, marker = styles[method]
    label = f"{method}, {epochs:g} epochs" + (" each" if method == "exact widths" else "")
    line = "" if method == "exact widths" else "-" if passes <= 12 else "--"
    axes.errorbar(
        curve.index,
        curve["mean"],
        curve["std"].fillna(0),
        color=colour,
        marker=marker,
        ms=6,
        capsize=3,
        linestyle=line,
        label=label,
    )
axes.set(xscale="log", yscale="log", xlabel="features of the code that are kept", ylabel="test mean squared error")
axes.set_xticks(KS, [str(k) for k in KS])
axes.set_yticks(ticks := [0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.09], [str(tick) for tick in ticks])
axes.minorticks_off()
axes.grid(alpha=0.3)
axes.legend(frameon=False)
figure.savefig(HERE / "methods.png", dpi=130, facecolor="white")
