"""Places whose features can be cut, in networks that declare none."""

import torch
import torch.nn.functional as F
from torch import nn

from runner.compaction.places import find_places
from runner.compaction.tracing import find_coupling
from runner.config.build import build
from runner.config.compose import Composer
from runner.models.layers import FeaturePlace


class Net(nn.Module):
    """A place behind BatchNorm and a depthwise convolution; a sum, which is not a place; a linear place."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point, self.branch = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 6, 1)
        self.hidden, self.logits = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = self.point(self.depthwise(F.relu(self.norm(self.stem(x)))))
        x = x + self.branch(x)
        return self.logits(F.relu(self.hidden(x.mean((2, 3)))))


def test_a_place_is_read_and_made_by_one_layer_each():
    found = find_places(find_coupling(Net(), (torch.rand(2, 1, 6, 6),)))
    assert found == (FeaturePlace("point", "stem", 1), FeaturePlace("logits", "hidden", -1))


def test_the_declared_places_of_our_networks_are_among_those_that_are_found():
    for name in ("resnet32_he", "lenet", "mlp"):
        model = build(Composer("inspect").single([f"model={name}"]), "model", channels=1, image_size=16, classes=10)
        coupling = find_coupling(model, (torch.rand(2, 1, 16, 16),))
        found = {(place.consumer, place.producer) for place in find_places(coupling)}
        assert {(place.consumer, place.producer) for place in model.feature_places} <= found, name
