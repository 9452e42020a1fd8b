"""python steps.py NAME PRECISION DATA_ROOT [compile]: what shortens a training step, steps-NAME.csv beside this file.

One thread, ResNet-32 of He et al. on CIFAR-10, `dropout=targeted`, batches of 128; processor time of whole training
steps, all alternatives one after another in every round. NAME says which machine and precision it is. At the end, what
the operators of one step take.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch._inductor.config
import torch.nn.functional as F

import runner.models.blocks
import runner.models.resnet
from runner.config.compose import Composer
from runner.experiment import Experiment
from runner.running import settle
from runner.training.loop import Training

torch.set_num_threads(1)
if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":  # a setting that torch.compile does not read
    torch._inductor.config.cpp.simdlen = 256
name, precision, root = sys.argv[1:4]
ROUNDS = 15
COMMON = ["device=cpu", "data=cifar10", f"data.root={root}", "model=resnet32_he", "schedule.length=2it"]
COMMON += [f"precision={precision}"]


class InPlace:
    """torch.nn.functional with ReLU in place."""

    def __getattr__(self, attribute: str) -> object:
        return getattr(F, attribute)

    @staticmethod
    def relu(x: torch.Tensor) -> torch.Tensor:
        return F.relu(x, inplace=True)


class Contiguous:
    """Batches of another one in contiguous format (NCHW)."""

    def __init__(self, batches: object) -> None:
        self.batches = batches

    def __getattr__(self, attribute: str) -> object:
        return getattr(self.batches, attribute)

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = self.batches.batch(step)
        return images.contiguous(), labels


def training(*words: str) -> Training:
    made = Experiment.from_config(settle(Composer("train").single([*COMMON, *words]))).training()
    made.skip_to(0, 10**6)  # the first phase of image_sizes, and a step that is never the last
    return made


def nchw() -> Training:
    made = training("dropout=targeted")
    made.model.to(memory_format=torch.contiguous_format)
    made.batches = Contiguous(made.batches)
    return made


ways = {
    "as it is": training("dropout=targeted"),
    "without dropout": training("dropout=none"),
    "contiguous (NCHW)": nchw(),
    "ReLU in place": training("dropout=targeted"),
    "24 px": training("dropout=targeted", "schedule.image_sizes=[0.75,1]"),
    "16 px": training("dropout=targeted", "schedule.image_sizes=[0.5,1]"),
}
if "compile" in sys.argv:
    ways["compile=true"] = training("dropout=targeted", "compile=true")
first, times = {}, {way: [] for way in ways}
for number in range(ROUNDS + 2):
    for way, made in ways.items():
        module = InPlace() if way == "ReLU in place" else F
        runner.models.blocks.F = runner.models.resnet.F = module
        wall, begun = time.monotonic(), time.process_time()
        made.step = 0
        made.one_step()
        if number == 0:
            first[way] = time.monotonic() - wall
        elif number > 1:
            times[way].append(time.process_time() - begun)
seconds = np.array([times[way] for way in ways])
low, middle, high = np.quantile(seconds[0] / seconds, [0.25, 0.5, 0.75], axis=1)
columns = {"step": list(ways), "milliseconds": 1e3 * np.median(seconds, axis=1), "faster by": middle}
table = pd.DataFrame({**columns, "low": low, "high": high, "first step, s": [first[way] for way in ways]}).round(2)
table.to_csv(Path(__file__).with_name(f"steps-{name}.csv"), index=False)
print(table.to_string())

GROUPS = {"convolution": "convolutions", "batch_norm": "BatchNorm", "threshold": "ReLU", "clamp": "ReLU", "add": "sums"}
runner.models.blocks.F = runner.models.resnet.F = F
with torch.profiler.profile() as profile:
    ways["as it is"].step = 0
    ways["as it is"].one_step()
shares: dict[str, float] = {}
for event in profile.key_averages():
    group = next((group for part, group in GROUPS.items() if part in event.key), "other")
    shares[group] = shares.get(group, 0.0) + event.self_cpu_time_total
print({group: f"{share / sum(shares.values()):.0%}" for group, share in sorted(shares.items())})
