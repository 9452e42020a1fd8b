"""k directions of a place: the best rank-k approximation of the weight, and principal components of the activations."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from runner.analyses.scree.cuts import ALL, Cut
from runner.analyses.scree.low_rank import PCA, SVD, LowRank, of_weight
from runner.models.layers import FeaturePlace
from runner.pruning.sweep import Sweeper


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 4, 3)
        self.last = nn.Linear(4, 3)
        self.feature_places = (FeaturePlace("second", "first", 1), FeaturePlace("last", "second", -1))

    def forward(self, x):
        return self.last(self.second(self.first(x)).mean((2, 3)))


class Data:
    def eval_batches(self, split, limit=None):
        generator = torch.Generator().manual_seed(len(split))
        return iter([(torch.randn(20, 2, 5, 5, generator=generator) + 1,)] * 2)


class Task:
    def evaluate(self, model, batches):
        outputs = torch.cat([model(x) for (x,) in batches])
        return {"loss": float(outputs.detach().square().mean()), "outputs": outputs.detach()}


@pytest.fixture
def low_rank():
    return LowRank.of(Sweeper(Net().eval(), Task(), Data(), nullcontext))


def outputs(low_rank, how, place, ks):
    cut = Cut(place, ks[0], 6, 1 - ks[0] / 6)
    return low_rank.measure(how, cut, {"second": 6, "last": 4}, "kept", "test")["outputs"]


def test_the_weight_becomes_its_best_approximation(low_rank):
    model = low_rank.sweeper.model
    found = outputs(low_rank, SVD, "second", (2,))
    matrix = model.second.weight.detach().transpose(0, 1).flatten(1)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    cut = (u[:, :2] * s[:2]) @ v[:2]
    with torch.no_grad():
        whole = model.second.weight.clone()
        model.second.weight.copy_(cut.view(6, 4, 3, 3).transpose(0, 1))
        expected = Task().evaluate(model, Data().eval_batches("test"))["outputs"]
        model.second.weight.copy_(whole)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.dist(cut, matrix) == pytest.approx(float(s[2:].square().sum().sqrt()), rel=1e-4)


def test_two_channels_make_activations_of_rank_two_about_their_mean(low_rank):
    whole = outputs(low_rank, SVD, "second", (6,))
    # Six features are a linear map of two channels: two components of the activations suffice, but neither one
    # component nor two directions of the weight.
    assert torch.allclose(outputs(low_rank, PCA, "second", (2,)), whole, atol=1e-5)
    assert not torch.allclose(outputs(low_rank, PCA, "second", (1,)), whole, atol=1e-3)
    assert not torch.allclose(outputs(low_rank, SVD, "second", (2,)), whole, atol=1e-3)


@pytest.mark.parametrize("how", [SVD, PCA])
def test_all_places_at_once(low_rank, how):
    model = low_rank.sweeper.model
    expected = Task().evaluate(model, Data().eval_batches("test"))["outputs"]
    assert torch.allclose(
        low_rank.measure(how, Cut(ALL, 10, 10, 0.0), {"second": 6, "last": 4}, "kept", "test")["outputs"],
        expected,
        atol=1e-5,
    )
    half = low_rank.measure(how, Cut(ALL, 5, 10, 0.5), {"second": 6, "last": 4}, "kept", "test")["outputs"]
    hooks = [
        model.second.register_forward_pre_hook(lambda m, i: (low_rank.found[how]["second"].project(i[0], 1, 3),)),
        model.last.register_forward_pre_hook(lambda m, i: (low_rank.found[how]["last"].project(i[0], -1, 2),)),
    ]
    assert torch.allclose(half, Task().evaluate(model, Data().eval_batches("test"))["outputs"], atol=1e-6)
    for hook in hooks:
        hook.remove()
    assert not model.second._forward_pre_hooks


def test_more_inputs_than_a_weight_has_outputs():
    directions = of_weight(nn.Linear(7, 2))
    assert directions.basis.shape == (7, 7)
    assert torch.allclose(directions.basis.T @ directions.basis, torch.eye(7, dtype=torch.float64), atol=1e-9)
    x = torch.randn(3, 7)
    assert torch.allclose(directions.project(x, -1, 7), x, atol=1e-5)


def test_grouped_convolutions_are_left_out():
    model = Net()
    model.second = nn.Conv2d(6, 4, 3, groups=2)
    low_rank = LowRank.of(Sweeper(model.eval(), Task(), Data(), nullcontext))
    assert list(low_rank.places) == ["last"]
    together = {"second": 6, "last": 4}
    assert not low_rank.covers(Cut(ALL, 5, 10, 0.5), together) and low_rank.covers(Cut("last", 2, 4, 0.5), together)
