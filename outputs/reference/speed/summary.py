"""python summary.py OUTPUTS: accuracy.csv and .md beside this file, from the runs there: what shortens training.

Mean and deviation over seeds of test accuracy, unpruned and with 75 % of the weights pruned, BatchNorm kept; and the
number of pixels that the training computes, as a fraction of those of the default settings.
"""

import sys
from pathlib import Path

import pandas as pd

import runner
from runner.reporting.writing import padded

HERE = Path(__file__).parent
rows = []
for result in runner.find(sys.argv[1]):
    schedule, points = result.config["schedule"], result.pruning.query("split == 'test' and batch_norm == 'kept'")
    epochs = int(schedule["length"].removesuffix("ep"))
    sizes = schedule.get("image_sizes") or [1.0]
    unpruned = points[(points.floor == 0) & (points.sparsity == 0)].accuracy.iloc[0]
    pruned = points[points.sparsity == 0.75].accuracy.iloc[0]
    rows.append(
        {
            "epochs": epochs,
            "image sizes": " ".join(f"{size:g}" for size in sizes),
            "batch": schedule["batch_size"],
            "peak rate": schedule["learning_rate"],
            "seed": result.config["seed"],
            "pixels": epochs * sum(size**2 for size in sizes) / len(sizes),
            "seconds": result.status["seconds"],
            "unpruned": 100 * unpruned,
            "75 %": 100 * pruned,
        }
    )
table = pd.DataFrame(rows).sort_values(["batch", "epochs", "image sizes", "seed"], ascending=[False, True, True, True])
table.to_csv(HERE / "accuracy.csv", index=False, float_format="%.5g")
settings = ["epochs", "image sizes", "batch", "peak rate"]
default = table[(table.epochs == table.epochs.min()) & (table["image sizes"] == "1") & (table.batch == 128)]
default = default.set_index("seed")
cells = [[*settings, "seeds", "pixels", "unpruned", "75 %", "difference at 75 %"]]
for values, part in table.groupby(settings, sort=False):
    part = part.set_index("seed")
    gained = (part["75 %"] - default["75 %"]).dropna()
    shown = [f"{part[name].mean():.1f} ± {part[name].std():.1f}" for name in ("unpruned", "75 %")]
    relative = part.pixels.mean() / default.pixels.mean()
    cells.append(
        [*map(str, values), str(len(part)), f"{relative:.2f}", *shown, f"{gained.mean():+.1f} ± {gained.std():.1f}"]
    )
(HERE / "accuracy.md").write_text("\n".join(padded(cells)) + "\n")
print("\n".join(padded(cells)))
