"""python layers.py RUN CHOICES.CSV: the widths that run scree chose for each block of a ResNet-32, as one network.

Prints a row for the whole network and for each choice: inner channels of the blocks, parameters of the network cut
there by compaction, its accuracy without training, and the uniform widths of about as many parameters. Then
retraining from scratch is `run train model=module model.architecture=widths:Narrow model.arguments={inner: […]}`.
"""

import copy
import sys
from pathlib import Path

import pandas as pd
import torch
from widths import Narrow

import runner
from runner.compaction.cutting import compact
from runner.pruning.apply import apply_masks
from runner.pruning.granularities.feature import FeatureMembers

result, chosen = runner.load(sys.argv[1]), pd.read_csv(sys.argv[2])
chosen = chosen[chosen.place != "all"].set_index("place")
model = result.model()
places = [place.consumer for place in model.feature_places]
full = [int(chosen.n[place]) for place in places]
shape = next(result.data.eval_batches("test", 8))[0]


def parameters(inner):
    return sum(p.numel() for p in Narrow(shape.shape[1], shape.shape[2], 10, inner).parameters())


def uniform(wanted):
    """Inner widths at the fraction whose network has the number of parameters that is nearest."""
    candidates = [[max(1, round(n * step / 256)) for n in full] for step in range(1, 257)]
    return min(candidates, key=lambda inner: abs(parameters(inner) - wanted))


@torch.no_grad()
def accuracy(network, split):
    found = [(network(x).argmax(1) == y) for x, y in result.data.eval_batches(split)]
    return float(torch.cat(found).float().mean())


for rule in ("full", "fewest", "elbow"):
    inner = [int(chosen[rule].fillna(chosen.n)[place]) for place in places]
    cut = copy.deepcopy(model)
    members = FeatureMembers(cut)
    removed = {place: (torch.arange(n) >= k)[None] for place, n, k in zip(places, full, inner, strict=True)}
    apply_masks(members.weights, members.weights, members.masks(removed))
    small = compact(cut, [shape], fold=False).network
    count = sum(p.numel() for p in small.parameters())
    same = uniform(count)
    print(rule, inner, f"{count} parameters, cut:", *(f"{s} {accuracy(small, s):.4f}" for s in ("validation", "test")))
    print("  uniform", same, f"{parameters(same)} parameters")
    Path(f"{rule}.txt").write_text(f"{str(inner).replace(' ', '')} {str(same).replace(' ', '')}\n")
