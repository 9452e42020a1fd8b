"""Effective sparsity compared with a search for paths, also through residual sums."""

import itertools

import pytest
import torch
from torch import nn

from runner.models.resnet import PreActResNet
from runner.models.transformer import Transformer
from runner.pruning.apply import prune
from runner.pruning.paths import effective_sparsity


def multilayer(seed, keep):
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    with torch.no_grad():
        for layer in (model[0], model[2], model[4]):
            layer.weight.mul_(torch.rand(layer.weight.shape, generator=generator) < keep)
    return model


@pytest.mark.parametrize(("seed", "keep"), list(itertools.product(range(5), (0.1, 0.25, 0.5))))
def test_a_weight_counts_if_a_path_leads_through_it(seed, keep):
    model = multilayer(seed, keep)
    first, second, third = (model[i].weight.detach() != 0 for i in (0, 2, 4))
    alive = torch.zeros(5, 6, dtype=torch.bool)
    for i, h, g, o in itertools.product(range(4), range(6), range(5), range(3)):
        if first[h, i] and second[g, h] and third[o, g]:
            alive[g, h] = True
    found = effective_sparsity(model, ["2"], (torch.randn(2, 4),))
    assert found == pytest.approx(1 - int(alive.sum()) / alive.numel())


def test_emptied_filters_take_with_them_what_fed_and_what_read_them():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1)
    )
    model.append(nn.Sequential(nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)))
    with torch.no_grad():
        model[3].weight[:3] = 0  # half of the filters
    found = effective_sparsity(model, ["3", "5"], (torch.randn(2, 3, 9, 9),))
    assert found == pytest.approx(0.5)  # and half of the 1x1 convolution's weights, which read them
    before = model[3].weight.detach().clone()
    assert torch.equal(model[3].weight, before) and model[1].running_mean.eq(0).all()


def test_residual_sums_keep_paths_open():
    torch.manual_seed(0)
    model = PreActResNet(channels=3, classes=10, blocks=1, width=0.25, image_size=8).eval()
    layers = list(prune(model, 0.98))
    plain = 1 - sum(int(model.get_submodule(n).weight.count_nonzero()) for n in layers) / sum(
        model.get_submodule(n).weight.numel() for n in layers
    )
    found = effective_sparsity(model, layers, (torch.randn(1, 3, 8, 8),))
    assert found is not None and plain <= found < 1


def test_networks_with_attention_have_none():
    model = Transformer(20, layers=1, features=16, heads=4, feed_forward=8)
    ids = torch.randint(3, 20, (1, 4))
    assert effective_sparsity(model, ["encoder.0.feed_forward.inner"], (ids, ids)) is None


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.AdaptiveMaxPool2d(3),
        nn.Hardtanh(),
        nn.ReLU6(),
    ],
    ids=repr,
)
def test_dense_networks_have_no_effective_sparsity(pool):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), pool, nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())
    model.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)])
    assert effective_sparsity(model, ["0", "3", "7"], (torch.randn(2, 3, 12, 12),)) == 0


@pytest.mark.parametrize("mixing", [nn.InstanceNorm1d(4), nn.RMSNorm(4), nn.LogSoftmax(1)], ids=repr)
def test_it_is_unknown_where_derivatives_can_cancel(mixing):
    model = nn.Sequential(nn.Linear(4, 4), mixing, nn.Linear(4, 2))
    assert effective_sparsity(model, ["0"], (torch.randn(2, 4),)) is None
