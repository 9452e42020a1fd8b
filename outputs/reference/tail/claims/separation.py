"""python separation.py RUN…: separation.csv beside this file: how well one or two features tell shoes from clothes.

A threshold on the first feature and a nearest-centroid rule on the first two, made on the training images and measured
on the test images; beside them the same rules on the first principal components of the pixels.
"""

import sys
from pathlib import Path

import pandas as pd
import torch

import runner

SHOES = [5, 7, 9]  # sandal, sneaker, ankle boot
AGAINST = {"clothes": [0, 1, 2, 3, 4, 6], "shirts": [0, 6]}  # all but the bag; T-shirt and shirt


@torch.no_grad()
def codes(result, split):
    model = result.model()
    found = [(model.encode(x), x.flatten(1), labels) for x, labels in result.data.eval_batches(split)]
    return tuple(map(torch.cat, zip(*found, strict=True)))


def threshold(x, shoes):
    """The best of all thresholds, and on which side shoes are."""
    values, order = x.sort()
    right = shoes[order].long().cumsum(0)
    below = torch.arange(1, len(x) + 1) - right  # clothes up to here
    gain = below + (shoes.sum() - right)  # right where shoes lie above
    best = [int(gain.argmax()), int((len(x) - gain).argmax())]
    above = bool(gain[best[0]] >= (len(x) - gain)[best[1]])
    return values[best[0 if above else 1]], above


def accuracies(train, train_shoes, test, test_shoes):
    cut, above = threshold(train[:, 0], train_shoes)
    centres = torch.stack([train[train_shoes, :2].mean(0), train[~train_shoes, :2].mean(0)])
    nearest = torch.cdist(test[:, :2], centres).argmin(1) == 0
    by_cut = (test[:, 0] > cut) == above
    return [float((found == test_shoes).float().mean()) for found in (by_cut, nearest)]


rows, seen = [], False
for folder in sys.argv[1:]:
    result = runner.load(folder)
    (train, pixels, labels), (test, test_pixels, test_labels) = codes(result, "train"), codes(result, "test")
    dropout, seed = result.config["dropout"], result.config["seed"]
    kinds = {f"tail p={dropout['p']:g}" if "p" in dropout else dropout["name"]: (train, test)}
    if not seen:
        mean = pixels.mean(0)
        first = torch.linalg.eigh((pixels - mean).T @ (pixels - mean)).eigenvectors.flip(1)[:, :2]
        kinds["PCA"] = ((pixels - mean) @ first, (test_pixels - mean) @ first)
        seen = True
    for kind, (known, new) in kinds.items():
        for name, classes in AGAINST.items():
            masks = [sum(part == c for c in SHOES + classes).bool() for part in (labels, test_labels)]
            parts = zip((labels, test_labels), masks, strict=True)
            shoes = [sum(part == c for c in SHOES).bool()[mask] for part, mask in parts]
            one, two = accuracies(known[masks[0]], shoes[0], new[masks[1]], shoes[1])
            rows.append({"code": kind, "seed": seed, "shoes against": name, "k = 1": one, "k = 2": two})
table = pd.DataFrame(rows)
table.to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.4f")
print(table.groupby(["code", "shoes against"])[["k = 1", "k = 2"]].agg(["mean", "std", "count"]).round(4))
