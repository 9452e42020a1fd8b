"""Targeted dropout of groups, blocks and heads, compared with the masks of the sweep."""

import copy

import pytest
import torch
from torch import nn

from runner.dropout import TargetedGroups
from runner.errors import ParameterError
from runner.models.transformer import Transformer
from runner.pruning.apply import prune
from runner.pruning.granularities.n_of_m import NofM


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Conv2d(12, 8, 1), nn.Flatten(), nn.Linear(8, 2))


def transformer():
    torch.manual_seed(0)
    return Transformer(20, layers=1, features=16, heads=4, feed_forward=8, residual_dropout=0)


CASES = [
    (network, "n_of_m", {"n_of_m": {"m": 2}}),
    (network, "block", "block"),
    (network, "unit", "unit"),
    (transformer, "head", "head"),
    (transformer, "feature", "feature"),
]


@pytest.mark.parametrize(("make", "name", "granularity"), CASES, ids=[case[1] for case in CASES])
def test_evaluation_prunes_what_the_sweep_prunes(make, name, granularity):
    model, plain = make().eval(), make()
    variant = TargetedGroups(granularity, gamma=0.5)
    variant.attach(model)
    prune(plain, 0.5, NofM(2) if name == "n_of_m" else name)
    expected = plain.state_dict()
    for layer in variant.layers:
        assert torch.equal(model.get_submodule(layer).weight, expected[f"{layer}.weight"])
    assert (variant.floor(name), variant.floor("weight")) == (0.5, 0.0)
    variant.detach()
    assert all(map(torch.equal, model.state_dict().values(), make().state_dict().values()))


def test_a_head_is_dropped_in_all_its_layers_at_once_and_drawn_for_every_pass():
    model = transformer().train()
    TargetedGroups("head", alpha=0.5, gamma=0.75).attach(model)
    source, target = torch.randint(3, 20, (2, 5)), torch.randint(3, 20, (2, 6))
    seen, attention = set(), model.encoder[0].attention
    for _ in range(60):
        model(source, target)
        query, value = (part.weight.view(4, 4, 16).ne(0).any(-1).any(-1) for part in (attention.query, attention.value))
        read = attention.output.weight.view(16, 4, 4).ne(0).any(0).any(-1)
        assert torch.equal(query, value) and torch.equal(query, read)
        seen.add(tuple(query.tolist()))
    assert len(seen) == 8  # any subset of the three targeted heads, but never the strongest
    assert sum(all(one) for one in zip(*seen, strict=True)) == 1


def test_gradients_reach_what_is_kept_and_copies_stand_alone():
    model = network().train()
    variant = TargetedGroups(alpha=1.0, gamma=0.5)
    variant.attach(model)
    copied = copy.deepcopy(model)
    model(torch.randn(2, 3, 6, 6)[:, :, :3, :3].repeat(1, 1, 2, 2)[:, :, :5, :5]).sum().backward()
    gradient = variant.raw_parameter(variant.layers["1"]).grad
    assert torch.equal(gradient == 0, model[1].weight == 0)
    with torch.no_grad():
        variant.raw_parameter(variant.layers["1"]).zero_()
    assert copied.eval()[1].weight.any()


def test_the_ramp_rises():
    variant = TargetedGroups(alpha=0.8, gamma=0.5, ramp=[0.2, 0.4, 0.4])
    assert (variant.rates.alpha, variant.rates.gamma) == (0, 0)
    variant.before_step(9, 10)
    assert (variant.rates.alpha, variant.rates.gamma) == (0.8, 0.5)


@pytest.mark.parametrize("granularity", ["groups", {"n_of_m": {"n": 2}}, {"n_of_m": {"m": 1}}])
def test_unknown_granularities_are_refused(granularity):
    with pytest.raises(ParameterError, match=r"granularity=.*expected one of weight, unit, feature"):
        TargetedGroups(granularity)
