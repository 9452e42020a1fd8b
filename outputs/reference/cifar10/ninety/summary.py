"""python summary.py OUTPUTS: ninety.csv, ninety.md and ninety.png beside this file, from the runs there."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import runner
from runner.reporting.pairing import half_width
from runner.reporting.points import is_unpruned
from runner.reporting.writing import padded

HERE = Path(__file__).parent
ASKED = 0.9
SPARSE = ("gradual_magnitude", "rigl", "masked")  # sparse when training ends: unpruned they have 90 % zeros
REFERENCE = "gradual_magnitude"


def name(config: dict) -> str:
    dropout, schedule = config["dropout"]["name"], config["schedule"]
    if dropout == "masked":
        return f"none 20 + fine-tuned 10 epochs, rate {schedule['learning_rate']:g}"
    return f"{dropout}{', 20 epochs' if schedule['length'] == '20ep' else ''}"


frames = []
for result in runner.find(sys.argv[1]):
    rows, config = result.pruning, result.config
    sparse = config["dropout"]["name"] in SPARSE
    trained = is_unpruned(rows)
    # The network at 90 %: the trained one if that is sparse, else the trained one pruned by the variant's own rule.
    at = trained if sparse else rows.sparsity == ASKED
    about = {"method": name(config), "seed": config["seed"]}
    frames.append(rows[at].assign(**about, pruned=True))
    if not sparse:
        frames.append(rows[trained].assign(**about, pruned=False))
points = pd.concat(frames)
points["accuracy"] *= 100
key = ["method", "seed", "pruned", "batch_norm", "split"]
points = points.sort_values(key)[[*key, "actual_sparsity", "nonzero_weights", "accuracy", "loss"]]
points.to_csv(HERE / "ninety.csv", index=False)


def spread(values: pd.Series) -> str:
    deviation = f" ± {values.std():.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{deviation}" if len(values) else "–"


def difference(values: pd.Series, others: pd.Series) -> str:
    paired = (values - others).dropna()
    if len(paired) < 2:
        return f"{paired.mean():+.1f}".replace("-", "−") if len(paired) else "–"
    return f"{paired.mean():+.1f} ± {half_width(paired):.1f}".replace("-", "−")


def accuracies(method: str, pruned: bool, batch_norm: str) -> pd.Series:
    chosen = (points.method == method) & (points.pruned == pruned)
    chosen &= (points.batch_norm == batch_norm) & (points.split == "test")
    return points[chosen].set_index("seed").accuracy


cells = [["", "seeds", "unpruned", "90 %, kept", "difference", "90 %, recalibrated", "difference"]]
order = {method: accuracies(method, True, "kept").mean() for method in points.method.unique()}
for method in sorted(order, key=order.__getitem__, reverse=True):
    row = [method, str(len(accuracies(method, True, "kept"))), spread(accuracies(method, False, "kept"))]
    for norm in ("kept", "recalibrated"):
        values = accuracies(method, True, norm)
        apart = "–" if method == REFERENCE else difference(values, accuracies(REFERENCE, True, norm))
        row += [spread(values), apart]
    cells.append(row)
text = "\n".join(padded(cells))
(HERE / "ninety.md").write_text(text + "\n")
print(text)
print(points[points.pruned & (points.split == "validation") & (points.batch_norm == "kept")].to_string())

figure, axes = plt.subplots(figsize=(7, 3.8))
shown = sorted((method for method in order if order[method] > 50), key=order.__getitem__)  # others are in the table
for norm, face, shift in (("kept", "C0", 0.1), ("recalibrated", "white", -0.1)):
    marks = [(value, place + shift) for place, method in enumerate(shown) for value in accuracies(method, True, norm)]
    axes.plot(*zip(*marks, strict=True), "o", color="C0", markerfacecolor=face, label=norm)
axes.set_yticks(range(len(shown)), shown)
axes.set_xlabel("test accuracy at 90 %, in percent; one mark per seed")
axes.grid(axis="x", color="0.9")
axes.set_axisbelow(True)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(title="BatchNorm", frameon=False)
figure.tight_layout()
figure.savefig(HERE / "ninety.png", dpi=150, metadata={"Software": None})
