"""python lenet.py OUTPUTS: lenet.csv and .md beside this file, from the runs of LeNet there, a table for each data set.

Test accuracy in percent at 1/8, 1/4, 1/2 and all of the features of both places, for there is no BatchNorm; mean and
deviation over seeds, and the passes over the training images that all four widths took together.
"""

import sys
from pathlib import Path

import pandas as pd

import runner
from runner.reporting.writing import padded

HERE = Path(__file__).parent
WIDTHS = {1.0: "1", 0.5: "1/2", 0.25: "1/4", 0.125: "1/8"}
EXACT = {6: 1.0, 3: 0.5, 2: 0.25, 1: 0.125}  # channels of the first convolution → its width
METHODS = ["exact widths", "tail", "nested", "ordered", "matryoshka", "slimmable"]

rows = []
for result in runner.find(sys.argv[1]):
    config, points = result.config, result.pruning.query("split == 'test'")
    about = {"data": config["data"]["name"], "seed": config["seed"]}
    about["length"] = config["schedule"]["length"]
    if config["dropout"]["name"] == "none":
        width = EXACT[config["model"]["widths"][0]]
        whole = points[points.sparsity == 0].accuracy.iloc[0]
        rows.append({**about, "method": "exact widths", "width": width, "accuracy": 100 * whole})
        continue
    for point in points[points.granularity == "feature"].itertuples():
        width = round(1 - point.sparsity, 9)
        rows.append({**about, "method": config["dropout"]["name"], "width": width, "accuracy": 100 * point.accuracy})
table = pd.DataFrame(rows)
table["order"] = table.method.map(METHODS.index)
table = table.sort_values(["data", "order", "seed", "width"]).drop(columns="order")
table.to_csv(HERE / "lenet.csv", index=False, float_format="%.5g")

lines = []
for data, of_data in table.groupby("data"):
    cells = [[data, "length", "seeds", *WIDTHS.values(), "passes"]]
    for method, part in of_data.groupby("method", sort=False):
        found = part.groupby("width").accuracy.agg(["mean", "std"])
        shown = [f"{found.loc[w, 'mean']:.1f}" for w in WIDTHS]
        if part.seed.nunique() > 1:
            shown = [f"{text} ± {found.loc[w, 'std']:.1f}" for text, w in zip(shown, WIDTHS, strict=True)]
        length = part.length.iloc[0] + (" each" if method == "exact widths" else "")
        times = 4 if method in ("exact widths", "matryoshka", "slimmable") else 1
        passes = times * int(part.length.iloc[0].removesuffix("ep"))
        cells.append([method, length, str(part.seed.nunique()), *shown, str(passes)])
    lines += [*padded(cells), ""]
(HERE / "lenet.md").write_text("\n".join(lines))
print("\n".join(lines))
