"""Gather the swept and the fine-tuned runs below a folder: python outputs/reference/language/summary.py outputs

Writes language.csv (every row of every seed), language.png and samples.txt (seed 0) beside this file, and prints the
tables of the page.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from runner.reporting.pairing import half_width
from runner.runs import Run, find_runs

HERE = Path(__file__).parent
COLUMNS = ["scores", "granularity", "sparsity", "actual_sparsity", "bits_per_byte", "perplexity", "loss", "examples"]
STYLES = {"magnitude": ":", "wanda": "--", "sparsegpt": "-"}
SAMPLED = ("0", "0.5", "0.75", "0.9")


def name_of(run: Run) -> str:
    dropout = run.config()["dropout"]
    rates = {"γ": dropout.get("gamma"), "": dropout.get("sparsity")}
    return " ".join([dropout["name"], *(f"{sign} {rate:.2f}".strip() for sign, rate in rates.items() if rate)])


def measured(run: Run) -> pd.DataFrame:
    rows = pd.read_csv(run.pruning_file)
    config = run.config()
    steps = config["schedule"]["length"]
    if config["dropout"]["name"] == "masked":
        source, tuned = Run(Path(config["init"])), steps
        asked = config["dropout"]["sparsity"]
        rows = rows[(rows["sparsity"] == asked) & (rows["scores"] == "magnitude")]
    else:
        source, tuned = run, ""
        rows = rows[rows["scores"] != "own"].drop_duplicates(COLUMNS[:3])
    return rows.assign(dropout=name_of(source), seed=config["seed"], fine_tuned=tuned)


def spread(values: pd.Series) -> str:
    return f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")


def difference(values: pd.Series, baseline: pd.Series) -> str:
    """The mean of paired differences with its 95 % interval."""
    paired = (values - baseline).dropna()
    if len(paired) < 2:
        return ""
    return f"{paired.mean():+.3f} ± {half_width(paired):.3f}"


def print_table(rows: pd.DataFrame, keys: list[str]) -> None:
    columns = sorted(rows["column"].unique(), key=lambda name: (name != "unpruned", name != "2:4", name))
    print(f"\n| {' | '.join(keys)} | {' | '.join(columns)} |\n|{'---|' * len(keys)}{'---:|' * len(columns)}")
    for key, part in rows.groupby(keys, sort=False):
        cells = [spread(part.loc[part["column"] == name, "bits_per_byte"]) for name in columns]
        print(f"| {' | '.join(str(word) for word in key)} | {' | '.join(cells)} |")


def column_of(row: pd.Series) -> str:
    if row["granularity"] == "n_of_m":
        return "2:4"
    return "unpruned" if row["sparsity"] == 0 else f"{100 * row['sparsity']:.0f} %"


runs = [run for run in find_runs([sys.argv[1]]) if run.state() == "finished"]
rows = pd.concat([measured(run) for run in runs])
rows = rows[~((rows["granularity"] == "n_of_m") & (rows["sparsity"] == 0))]
rows = rows[["dropout", "seed", "fine_tuned", *COLUMNS]].sort_values(["fine_tuned", "dropout", *COLUMNS[:3], "seed"])
rows.to_csv(HERE / "language.csv", index=False, lineterminator="\n")
rows["column"] = rows.apply(column_of, axis=1)
order = ["none", *sorted(set(rows["dropout"]) - {"none"})]
rows["dropout"] = pd.Categorical(rows["dropout"], order)
rows["scores"] = pd.Categorical(rows["scores"], list(STYLES))
rows = rows.sort_values(["dropout", "scores"], kind="stable")
once, tuned = rows[rows["fine_tuned"] == ""], rows[rows["fine_tuned"] != ""]

print(once.groupby("dropout", observed=True)["seed"].nunique().to_string())
print_table(once.astype({"dropout": str, "scores": str}), ["dropout", "scores"])
best = once.groupby(["dropout", "column", "seed"], observed=True)["bits_per_byte"].min()
print("\nthe best criterion of each, minus that of none: paired over seeds, 95 % interval")
for name in order[1:]:
    cells = {c: difference(best[name, c], best["none", c]) for c in ("unpruned", "2:4", "50 %", "75 %", "80 %", "90 %")}
    print(name, cells)
if len(tuned):
    print_table(tuned.astype({"dropout": str, "scores": str}), ["dropout", "fine_tuned"])
    repaired = tuned.set_index(["dropout", "column", "seed"])["bits_per_byte"]
    for name in order[1:]:
        print(name, {c: difference(repaired[name, c], repaired["none", c]) for c in ("50 %", "75 %", "90 %")})

figure, axes = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True, layout="constrained")
weights = once[(once["granularity"] == "weight")]
for number, name in enumerate(order):
    part = weights[weights["dropout"] == name]
    for scores, style in STYLES.items():
        lines = part[part["scores"] == scores].groupby("sparsity")["bits_per_byte"].agg(["mean", "std"])
        label = f"{name}, {scores}"
        if scores == "sparsegpt" or (scores == "magnitude" and name == "none"):
            axes[0].errorbar(100 * lines.index, lines["mean"], lines["std"], fmt=style, color=f"C{number}", label=label)
        if scores == "magnitude":
            axes[1].errorbar(100 * lines.index, lines["mean"], lines["std"], fmt="-", color=f"C{number}", label=name)
for panel, title in zip(axes, ("by SparseGPT, and none by magnitude", "by magnitude"), strict=True):
    panel.set(xlabel="weights removed, %", title=f"pruned once {title}")
    panel.legend(fontsize=8)
    panel.grid(alpha=0.3)
axes[0].set_ylabel("test bits per byte (lower is better)")
figure.savefig(HERE / "language.png", dpi=110, facecolor="white")

lines = []
for run in runs:
    if run.config()["seed"] == 0 and run.config()["dropout"]["name"] != "masked" and run.samples_file.exists():
        for block in run.samples_file.read_text().split("== ")[1:]:
            if any(f"sparsity {s} " in block for s in SAMPLED):
                lines.append(f"== {name_of(run)}, {block}")
(HERE / "samples.txt").write_text("".join(lines).rstrip() + "\n")
