"""python summary.py OUTPUTS: methods.csv, .md and .png beside this file, from the pruning.csv of runs there.

Mean and deviation over seeds of the test error at k = 2, 4, 8, 16, 32 features of the code, and the mean of the paired
differences to `tail` of the same cost in percent, over the seeds that both have. Below it the differences to networks
trained at exactly that width, on validation and on test, and the most that a seed misses by.
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import runner

HERE = Path(__file__).parent
STEPS_PER_EPOCH = 421
KS = [2, 4, 8, 16, 32]


def method_of(dropout: dict) -> str:
    widths = dropout.get("widths", [])
    if dropout["name"] == "none":
        return "exact widths"
    if dropout["name"] != "ordered" or widths == [0.125, 0.25, 0.5, 1.0]:
        return dropout["name"]
    return "ordered, " + " ".join(f"{widths.count(w)}×{round(32 * w)}" for w in sorted(set(widths)))


rows = []
for result in runner.find(sys.argv[1]):
    dropout, code, points = result.config["dropout"], result.config["model"]["code"], result.pruning
    name = dropout["name"]
    if name == "tail" and dropout["p"] != 0.5:
        continue
    passes = {"matryoshka": len(dropout.get("widths", ())), "slimmable": 2 + dropout.get("random", 0)}.get(name, 1)
    epochs = round(result.metrics.iloc[-1].step / STEPS_PER_EPOCH, 1)
    about = {"method": method_of(dropout), "epochs": epochs, "passes": round(passes * epochs)}
    about["seed"] = result.config["seed"]
    for split, part in points.groupby("split"):
        if name == "none":
            # Of a network without dropout its own width, not the narrower ones that it is cut to.
            measured = {code: float(part[part.sparsity == 0].mse.iloc[0])}
        else:
            part = part[part.granularity == "feature"]
            measured = {round(32 * (1 - row.sparsity)): row.mse for row in part.itertuples()}
        rows += [{**about, "split": split, "k": k, "mse": mse} for k, mse in measured.items() if k in KS]
table = pd.DataFrame(rows)
order = ["tail", "nested", "ordered", "matryoshka", "slimmable", "exact widths"]
rank = table.method.map(lambda method: order.index(method.partition(",")[0]))
table = table.assign(rank=rank).sort_values(["passes", "rank", "method", "seed", "split", "k"]).drop(columns="rank")
table.to_csv(HERE / "methods.csv", index=False, float_format="%.6g")
whole, table = table, table[table.split == "test"]

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

exact = whole[whole.method == "exact widths"].set_index(["split", "seed", "k"]).mse
lines += ["", "| method | epochs | passes | seeds | split | " + " | ".join(f"k = {k}" for k in KS) + " | most |"]
lines += ["|---|---:|---:|---:|---|" + 6 * "---:|"]
for (method, epochs, passes, split), part in whole[whole.method != "exact widths"].groupby([*key, "split"], sort=False):
    missed = part.set_index(["split", "seed", "k"]).mse
    missed = (100 * (missed / exact.reindex(missed.index) - 1)).dropna()
    if missed.empty:
        continue
    by_k = missed.groupby("k").mean().reindex(KS)
    cells = ["–" if pd.isna(value) else f"{value:+.1f} %" for value in by_k]
    seeds = missed.index.get_level_values("seed").nunique()
    about = [method, f"{epochs:g}", str(passes), str(seeds), split]
    lines.append(f"| {' | '.join([*about, *cells])} | {missed.max():+.1f} % |")
(HERE / "methods.md").write_text("\n".join(lines) + "\n")
print("\n".join(lines))

figure, axes = plt.subplots(figsize=(7.5, 5.6), layout="constrained")
styles = {
    "tail": ("#D55E00", "o"),
    "nested": ("#0072B2", "s"),
    "ordered": ("#009E73", "^"),
    "matryoshka": ("#CC79A7", "D"),
}
styles |= {"slimmable": ("#E69F00", "v"), "exact widths": ("black", "x")}
for (method, epochs, passes), part in table.groupby(key, sort=False):
    curve = part.groupby("k").mse.agg(["mean", "std"])
    if method.startswith("ordered,") and passes > 12 and part.seed.nunique() < 3:
        continue  # tried for one seed only
    colour, marker = styles[method.partition(",")[0]]
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
figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
figure.savefig(HERE / "methods.png", dpi=130, facecolor="white")
