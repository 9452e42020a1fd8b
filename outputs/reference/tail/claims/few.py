"""python few.py OUTPUTS: few.csv beside this file: every run there, whole and, if ordered, at some of its widths.

A row a run, width and split: loss and accuracy, over 10,000 images of validation and of test.
"""

import sys
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F

import runner

WIDTHS = [1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1]  # of the features of every place


@torch.no_grad()
def measured(model, batches):
    loss, right, examples = 0.0, 0, 0
    for inputs, labels in batches:
        logits = model(inputs).float()
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        right += int((logits.argmax(1) == labels).sum())
        examples += len(labels)
    return {"loss": loss / examples, "accuracy": right / examples}


rows = []
for result in runner.find(sys.argv[1]):
    dropout, last = result.config["dropout"], result.metrics.iloc[-1]
    shape = [place.producer for place in result.model().feature_places]
    features = "-".join(str(result.model().get_submodule(name).weight.shape[0]) for name in shape)
    about = {"dropout": dropout["name"], "p": dropout.get("p"), "features": features}
    about |= {"seed": result.config["seed"], "train_accuracy": last.train_accuracy, "train_loss": last.train_loss}
    for width in WIDTHS if dropout["name"] == "tail" else [1]:
        model = result.model(1 - width, "feature")
        for split in ("validation", "test"):
            row = measured(model, result.data.eval_batches(split, 10_000))
            rows.append({**about, "width": width, "split": split, **row})
table = pd.DataFrame(rows)
table.to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.5g")
whole = table[table.width == 1].pivot_table(
    index=["dropout", "p", "features"],
    columns="split",
    values=["accuracy", "loss"],
    aggfunc=["mean", "std"],
    dropna=False,
)
print(whole.dropna(how="all").round(4).to_string())
