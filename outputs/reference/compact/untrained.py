"""ResNet-32 of He et al. on 32x32 pixels, not trained, 99 % of each filter's weights removed: is it faster?

    python outputs/reference/compact/untrained.py

Random weights, pruned by magnitude, BatchNorm measured on random images. The time of a layer depends on how many
weights are left and where, not on their values; accuracy isn't asked for. Writes untrained.md beside this file.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from runner.compaction.certificate import times_and_layers
from runner.compaction.measuring import Timing, measure
from runner.compaction.packing import pack
from runner.compaction.saving import stored_tensors
from runner.models.resnet import ResNet
from runner.pruning.apply import prune

torch.manual_seed(0)
torch.set_num_threads(1)
model = ResNet(channels=3, image_size=32, classes=10)
images = torch.randn(128, 3, 32, 32)
prune(model, 0.99)
norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
for norm in norms:
    norm.momentum = None  # the average over all batches
with torch.no_grad():
    for batch in images.split(32):
        model.train()(batch)
model.eval()
networks = dict.fromkeys(("trained", "reference", "compact"), model)
timing = Timing(rounds=15, compile=True, layers=True)
measured = measure(networks, [images[:2]], images, len(pack(stored_tensors(model))), True, timing)
lines = times_and_layers(measured)
lines += [f"{measured.others:.1f} cores were busy with other processes meanwhile."]
lines += [f"- {note}" for note in measured.notes]
Path(sys.argv[0]).with_suffix(".md").write_text("\n".join(lines) + "\n")
print(*lines, sep="\n")
