"""python steps.py DATA_ROOT: steps.csv beside this file: what a training step of each method takes, timed in turn."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from runner.compaction.sparse.timing import in_turn
from runner.config.compose import Composer
from runner.experiment import Experiment
from runner.running import settle

torch.set_num_threads(1)
WIDTHS = "dropout.widths=[0.0625,0.125,0.25,0.5,1.0]"
METHODS = {"none": [], "tail": [], "nested": [], "ordered": [], "matryoshka": [WIDTHS], "slimmable": []}
common = [f"data.root={sys.argv[1]}", "data=fashion_mnist", "model=autoencoder", "precision=float32", "device=cpu"]
composer, calls = Composer("train"), []
for name, more in METHODS.items():
    parts = Experiment.from_config(settle(composer.single([*common, f"dropout={name}", "schedule.length=50ep", *more])))
    calls.append(parts.training().one_step)
times = np.array(in_turn(calls, 41))
ratios = times / times[0]
low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75], axis=1)
columns = {"method": list(METHODS), "milliseconds": 1e3 * np.median(times, axis=1)}
table = pd.DataFrame({**columns, "to none": middle, "low": low, "high": high}).round(3)
table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
print(table.to_string())
