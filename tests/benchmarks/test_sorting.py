import torch
from torch import nn

from runner.benchmarks.sorting import SortingTargeted
from runner.dropout.targeted import Targeted

ALPHA, GAMMA = 0.66, 0.75


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8, 2))


def weight_of(variant, train):
    model = network()
    raw = model[1].weight.detach().clone()
    variant.attach(model)
    model.train(train)
    return raw, model[1].weight.detach()


def test_it_is_targeted_dropout_in_evaluation():
    _, sorting = weight_of(SortingTargeted(ALPHA, GAMMA), train=False)
    _, own = weight_of(Targeted(ALPHA, GAMMA), train=False)
    assert torch.equal(sorting, own)
    assert (sorting == 0).sum() == 8 * 27


def test_it_drops_targeted_weights_only_and_so_many():
    torch.manual_seed(1)
    raw, dropped = weight_of(SortingTargeted(ALPHA, GAMMA), train=True)
    _, pruned = weight_of(SortingTargeted(ALPHA, GAMMA), train=False)
    targeted, zero = pruned == 0, dropped == 0
    assert not (zero & ~targeted).any()
    assert torch.equal(dropped[~zero], raw[~zero])
    assert abs(zero.sum() / targeted.sum() - ALPHA) < 0.15  # 216 draws: 4.6 standard deviations


def test_all_can_be_targeted():
    _, weight = weight_of(SortingTargeted(1.0, 1.0), train=True)
    assert not weight.any()
