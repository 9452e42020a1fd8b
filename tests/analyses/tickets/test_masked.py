"""The variant with a fixed mask."""

import pytest
import torch
from torch import nn

from runner.analyses.tickets.plan import Ticket, removed
from runner.dropout.masked import Masked
from runner.pruning.ranking import Ranking
from runner.pruning.sweep import Sweeper
from runner.regularizers import L1
from runner.training.schedules import Adam, OneCycle, decay_groups


def network():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3), nn.BatchNorm2d(10), nn.Flatten(), nn.Linear(40, 20))
    return nn.Sequential(*layers, nn.Linear(20, 5)).to(memory_format=torch.channels_last)


def variant(granularity="weight", sparsity=0.75, model=None):
    made = Masked(None, granularity, sparsity, "random", "rewound")
    made.removed = removed(
        Sweeper(model or network(), None, None, seed=3), Ticket("ticket", granularity, sparsity, "random")
    )
    return made


@pytest.mark.parametrize("granularity", ["weight", "unit"])
@pytest.mark.parametrize("schedule", [OneCycle(0.05, weight_decay=0.1), Adam(weight_decay=0.1)], ids=["sgd", "adam"])
def test_what_is_masked_stays_zero_whatever_moves_the_weights(granularity, schedule):
    """Despite momentum, weight decay and a penalty on raw weights. The other weights change, and detach cleanly."""
    model = network()
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    masked, regularizer = variant(granularity, model=model), L1(0.1)
    groups = decay_groups(model, schedule.weight_decay)
    regularizer.attach(model)
    masked.attach(model)
    assert set(masked.layers) == {"1", "4"}
    optimizer = schedule.optimizer(groups)
    for step in range(6):
        model.train()
        loss = model(torch.randn(4, 3, 6, 6)).square().mean() + regularizer.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, layer in masked.layers.items():
            gone = masked.removed[name].expand_as(layer.weight)
            assert not layer.weight[gone].any(), step
            assert not layer.parametrizations.weight.original[gone].any()
    masked.detach()
    assert model.state_dict().keys() == initial.keys()
    assert model[1].weight.is_contiguous(memory_format=torch.channels_last)
    for name, mask in masked.removed.items():
        weight = model.get_submodule(name).weight
        gone = mask.expand_as(weight)
        assert gone.any()
        assert torch.equal(weight == 0, gone)
        assert (weight != initial[f"{name}.weight"])[~gone].all()


@pytest.mark.parametrize("granularity", ["weight", "unit"])
def test_its_own_scores_never_bring_anything_back(granularity):
    """Even if some of the remaining weights have become zero too."""
    model = network()
    masked = variant(granularity, 0.5, model)
    masked.attach(model)
    with torch.no_grad():
        model[1].parametrizations.weight.original[:4] = 0
    scores = masked.scores()[granularity]
    for sparsity in (0.5, 0.6, 0.9):
        rows = {name: one if one.dim() == 2 else one[None] for name, one in scores.items()}
        pruned = Ranking(rows).pruned(sparsity)
        for name, mask in masked.removed.items():
            gone = mask.flatten(1)[:, 0] if granularity == "unit" else mask.flatten(1)
            assert pruned[name].view(gone.shape)[gone].all()
    model.eval()
    weight = model[4].weight
    expected = weight.norm(dim=1) if granularity == "unit" else weight.abs()
    assert torch.equal(scores["4"].clamp(min=0), expected)


def test_an_optimiser_that_moves_even_what_gets_no_gradient_changes_nothing():
    model = network()
    masked = variant(model=model)
    masked.attach(model)
    with torch.no_grad():
        model[1].parametrizations.weight.original.add_(1)
    gone = masked.removed["1"]
    assert not model[1].weight[gone].any()
    masked.detach()
    assert torch.equal(model[1].weight == 0, gone)


def test_a_copy_takes_its_masks_from_the_state_dict():
    """As when a run is resumed."""
    model, other = network(), network()
    first, second = variant(model=model), variant(model=other)
    second.removed = {name: ~mask for name, mask in second.removed.items()}
    first.attach(model)
    second.attach(other)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other[1].weight, model[1].weight)


def test_without_a_mask_it_cannot_train():
    with pytest.raises(ValueError, match="no mask to train with; run ticket FOLDER finds one"):
        Masked(None, "weight", 0.5, "own", "rewound").attach(network())
    masked = variant()
    masked.attach(network())
    with pytest.raises(ValueError, match="attached already"):
        masked.attach(network())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("layer", 0.5, "own", "rewound"),
            "^granularity='layer': expected one of weight, unit, feature, block",
        ),
        (("unit", 1.5, "own", "rewound"), r"^sparsity=1\.5: expected a number from 0 to 1$"),
        (
            ("unit", 0.5, "best", "rewound"),
            "^scores='best': expected one of own, magnitude, random, fpgm",
        ),
        (("unit", 0.5, "own", "last"), "^weights='last': expected one of rewound, fresh, final$"),
    ],
)
def test_bad_arguments(arguments, said):
    with pytest.raises(ValueError, match=said):
        Masked("none-1a2b3c4d", *arguments)
