"""python latency.py NAME=ELASTIC…: latency.csv and latency.png: what each width of elastic files takes to compute.

Eager mode, float32. All widths of a file are timed in turn, 31 rounds of at least 5 ms each; a width's ratio is the
median over the rounds of its time over the whole network's in the same round, with quartiles.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt

import runner
from runner.compaction.elastic import elastic_file, load_elastic
from runner.compaction.sparse.timing import in_turn

HERE = Path(__file__).parent
WIDTHS, BATCHES, ROUNDS = [0.0625, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0], [1, 32], 31

torch.set_num_threads(1)
rows = []
for argument in sys.argv[1:]:
    name, _, folder = argument.partition("=")
    shape = load_elastic(elastic_file(Path(folder))).inputs[0][0]
    networks = {width: runner.load_compact(folder, width=width) for width in WIDTHS}
    for batch in BATCHES:
        x = torch.rand(batch, *shape[1:])
        with torch.inference_mode():
            times = in_turn([lambda network=network, x=x: network(x) for network in networks.values()], ROUNDS, 0.005)
        for (width, network), took in zip(networks.items(), times, strict=True):
            ratios = np.array(took) / np.array(times[-1])
            low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
            count = sum(parameter.numel() for parameter in network.parameters())
            about = {"network": name, "width": width, "parameters": count, "batch": batch}
            about |= {"milliseconds": 1e3 * np.median(took), "ratio": middle, "ratio_low": low, "ratio_high": high}
            rows.append(about)
table = pd.DataFrame(rows)
table.to_csv(HERE / "latency.csv", index=False, float_format="%.4g")
print(table.round(3).to_string())

names = list(table.network.unique())
figure, panels = plt.subplots(1, len(names), figsize=(1 + 4.2 * len(names), 4), sharey=True, squeeze=False)
for name, panel in zip(names, panels[0], strict=True):
    for batch, colour, marker in zip(BATCHES, ("#0072B2", "#D55E00"), "os", strict=True):
        part = table[(table.network == name) & (table.batch == batch)]
        errors = [part.ratio - part.ratio_low, part.ratio_high - part.ratio]
        label = f"time, batch {batch}"
        panel.errorbar(part.width, part.ratio, errors, color=colour, marker=marker, ms=5, capsize=3, label=label)
    part = table[(table.network == name) & (table.batch == BATCHES[0])]
    panel.plot(part.width, part.parameters / part.parameters.max(), "--", color="#777777", label="parameters")
    panel.set(title=name, xlabel="width: fraction of each place's features", xlim=(0, 1.03))
    panel.grid(alpha=0.3)
    panel.legend(frameon=False, fontsize=9)
panels[0][0].set(ylabel="fraction of the whole network's", ylim=(0, None))
figure.tight_layout()
figure.savefig(HERE / "latency.png", dpi=130, facecolor="white")
