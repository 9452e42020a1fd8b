from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import nn

from runner.compaction.coupling import FIXED
from runner.compaction.tracing import find_coupling


def ours(coupling, group):
    """(module, side) → indices; a flattened channel is several columns."""
    return {(name, "out" if side == "channel" else side): set(idx) for name, side, idx in coupling.members(group)}


def theirs(model, layer, index):
    graph = tp.DependencyGraph()
    graph.build_dependency(
        model, torch.randn(2, 3, 32, 32), unwrapped_parameters={}, customized_pruners={}, ignored_layers=[]
    )
    names = {module: name for name, module in model.named_modules()}
    prune = tp.prune_linear_out_channels if isinstance(layer, nn.Linear) else tp.prune_conv_out_channels
    found = {}
    for dependency, indices in graph.get_pruning_group(layer, prune, idxs=[index]):
        if (name := names.get(dependency.target.module)) is not None:
            side = "in" if dependency.handler.__name__ == "prune_in_channels" else "out"
            if side == "in" and isinstance(dependency.target.module, nn.BatchNorm2d | nn.BatchNorm1d):
                side = "out"
            if not isinstance(dependency.target.module, nn.ReLU | nn.MaxPool2d | nn.Identity):
                found.setdefault((name, side), set()).update(indices)
    return found


@pytest.mark.parametrize("name", ["basic", "bottleneck", "preactivation", "vgg", "vgg-unflat"])
def test_what_goes_together_is_what_torch_pruning_finds(families, name):
    family = families[name]
    family.pixels, before = 32, family.pixels
    model = family.build()
    coupling = find_coupling(model, family.batch(2))
    family.pixels = before
    layers = [layer for layer in coupling.layers.values() if (coupling.group[layer.outputs] != FIXED).all()]
    assert len(layers) == len(coupling.layers) - 1  # all except the logits
    for layer in layers:
        module = model.get_submodule(layer.name)
        group = int(coupling.group[layer.outputs[1]])
        assert ours(coupling, group) == theirs(model, module, 1), layer.name


def test_channels_beside_the_padding_of_a_shortcut_stay(families):
    coupling = find_coupling(families["resnet"].build(), families["resnet"].batch(2))
    # the widths are 8, 16, 32: the 8 channels of the first stage are in the middle of the second stage's stream
    fixed = coupling.group[coupling.layers["blocks.1.conv2"].outputs] == FIXED
    assert fixed.tolist() == [True] * 4 + [False] * 8 + [True] * 4
    stem = coupling.group[coupling.layers["stem"].outputs]
    assert torch.equal(stem, coupling.group[coupling.layers["blocks.1.conv2"].outputs[4:12]])


class Mixed(nn.Module):
    """Concatenation, slices, a depthwise convolution, a gate, and a LayerNorm whose inputs cannot be cut."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 4, 3)
        self.depthwise = nn.Conv2d(10, 10, 3, groups=10)
        self.gate = nn.Conv2d(5, 5, 1)
        self.up = nn.ConvTranspose2d(5, 7, 2, 2)
        self.dense, self.norm, self.logits = nn.Linear(7, 8), nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x):
        x = self.depthwise(F.relu(torch.cat([self.a(x), self.b(x)], 1)))
        first, second = x.chunk(2, 1)
        x = self.up(first * torch.sigmoid(self.gate(second)))
        return self.logits(self.norm(self.dense(x.mean((2, 3)))))


def test_channels_are_followed_through_concatenation_slices_gates_and_depthwise_convolutions():
    coupling = find_coupling(Mixed(), (torch.randn(2, 3, 8, 8),))
    group, layers = coupling.group, coupling.layers
    # channel 0 of the first half is a's first filter, and is multiplied by the gate's first
    assert {(n, s): i for n, s, i in coupling.members(int(group[layers["a"].outputs[0]]))} == {
        ("a", "out"): [0],
        ("gate", "out"): [0],
        ("up", "in"): [0],
        ("depthwise", "channel"): [0],
    }
    # the second half is a's last filter and all of b, which only the gate reads
    assert (
        group[layers["gate"].inputs].tolist()
        == group[torch.cat([layers["a"].outputs[5:], layers["b"].outputs])].tolist()
    )
    assert (group[layers["dense"].outputs] == FIXED).all()  # LayerNorm
    assert (group[layers["up"].outputs] != FIXED).all()
    assert torch.equal(group[layers["up"].outputs], group[layers["dense"].inputs])


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.shared, self.logits = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.logits(F.relu(self.shared(F.relu(self.shared(F.relu(self.first(x)))))))


def test_a_layer_that_is_called_twice_reads_what_it_makes():
    coupling = find_coupling(Twice(), (torch.randn(2, 4),))
    group, layers = coupling.group, coupling.layers
    assert torch.equal(group[layers["shared"].inputs], group[layers["shared"].outputs])
    assert torch.equal(group[layers["first"].outputs], group[layers["shared"].outputs])
    assert layers["shared"].applications == 2
    assert layers["first"].norm is layers["shared"].norm is None


class Shared(nn.Module):
    """A BatchNorm and a weight that two layers share, and an output in a custom container."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.c, self.d = nn.Linear(6, 6), nn.Linear(6, 6)
        self.d.weight = self.c.weight
        self.free, self.logits = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = self.d(self.c(self.norm(self.a(x)) + self.norm(self.b(x))))
        return SimpleNamespace(logits=self.logits(F.relu(self.free(x))))


def test_what_is_shared_stays_and_so_does_an_output_in_any_container():
    coupling = find_coupling(Shared(), (torch.randn(2, 4),))
    group, layers = coupling.group, coupling.layers
    for name in ("a", "b", "logits"):
        assert (group[layers[name].outputs] == FIXED).all()
    assert layers["a"].norm is None
    assert layers.keys() == {"a", "b", "free", "logits"}
    assert (group[layers["free"].inputs] == FIXED).all()
    assert (group[layers["free"].outputs] != FIXED).all()


def test_one_example_cannot_tell_constants_apart(families):
    with pytest.raises(ValueError, match="at least 2"):
        find_coupling(families["mlp"].build(), families["mlp"].batch(1))


def test_tracing_leaves_the_models_mode(families):
    model = families["vgg-unflat"].build().train()
    model.dense[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    find_coupling(model, families["vgg-unflat"].batch(2))
    assert model.training
    assert not model.dense[1].training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_is_added_in_place_is_no_output():
    """As in torchvision's residual blocks: `out += identity`."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.a, self.b = (nn.Conv2d(i, 4, 1, bias=False) for i in (1, 4, 4))
            self.logits = nn.Linear(4, 2)

        def forward(self, x):
            x = self.stem(x)
            identity = self.b(x)
            out = self.a(x)
            out += identity
            return self.logits(out.mean((2, 3)))

    coupling = find_coupling(Block(), (torch.rand(2, 1, 4, 4),))
    groups = coupling.group[coupling.layers["a"].outputs]
    assert torch.equal(groups, coupling.group[coupling.layers["b"].outputs])
    assert (groups != FIXED).all()
