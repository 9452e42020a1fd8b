"""Scopes of targeted dropout other than a single filter, compared with the ranking of the sweep."""

import copy

import pytest
import torch
from torch import nn

from runner.dropout import Targeted
from runner.dropout.targeted import SCOPES
from runner.errors import ParameterError
from runner.pruning.apply import prune

LAYERS = ["0", "2", "4"]
BEYOND_A_FILTER = [scope for scope in SCOPES if scope != "filter"]


def network(channels_last=False):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1))
    )
    return model.to(memory_format=torch.channels_last) if channels_last else model


def weights(model):
    return [model.get_submodule(name).weight.detach().clone() for name in LAYERS]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("scope", SCOPES)
def test_evaluation_removes_what_the_sweep_removes(scope, gamma, channels_last):
    model, plain = network(channels_last), network()
    variant = Targeted(0.5, gamma, scope=scope)
    variant.attach(model, LAYERS)
    prune(plain, gamma, layers=LAYERS, scope=variant.scope)
    assert all(map(torch.equal, weights(model.eval()), weights(plain)))


@pytest.mark.parametrize("scope", BEYOND_A_FILTER)
def test_training_drops_targeted_entries_at_their_rate(scope):
    model, plain = network(), network()
    Targeted(0.5, 0.8, scope=scope).attach(model, LAYERS)
    prune(plain, 0.8, layers=LAYERS, scope=scope)
    model.train()
    dropped = [sum(w.eq(0) for w in draws) / 400 for draws in zip(*(weights(model) for _ in range(400)), strict=True)]
    for rate, kept in zip(dropped, weights(plain), strict=True):
        assert (rate[kept != 0] == 0).all()
        assert ((rate[kept == 0] - 0.5).abs() < 0.15).all()


@pytest.mark.parametrize("scope", BEYOND_A_FILTER)
def test_a_changed_weight_and_a_changed_rate_are_noticed(scope):
    model = network().eval()
    variant = Targeted(1.0, 0.8, ramp=[0.5, 1.0, 1.0], scope=scope)
    variant.attach(model, LAYERS)
    assert all((w != 0).all() for w in weights(model))
    variant.before_step(9, 10)
    before = weights(model)
    with torch.no_grad():
        for layer in variant.layers.values():
            variant.raw_parameter(layer).copy_(variant.raw_parameter(layer).flip(0))
    assert all(torch.equal(new, old.flip(0)) for new, old in zip(weights(model), before, strict=True))


def test_copies_and_detached_models_are_independent():
    model = network().eval()
    variant = Targeted(0.5, 0.8, scope="global")
    variant.attach(model, LAYERS)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied[0].parametrizations.weight.original.mul_(100)
    assert not torch.equal(copied[0].weight, model[0].weight * 100)
    variant.detach()
    assert all(map(torch.equal, weights(model), weights(network())))


def test_the_cubic_ramp_follows_its_formula():
    variant = Targeted(0.9, 0.99, ramp=[0.0, 0.6, 0.0], ramp_shape="cubic")
    for step in range(10):
        variant.before_step(step, 10)
        progress = min(1.0, step / 10 / 0.6)
        assert variant.rates.gamma == pytest.approx(0.99 * (1 - (1 - progress) ** 3))
        assert variant.rates.alpha == 0.9
    assert variant.rates.gamma == 0.99


@pytest.mark.parametrize(("option", "value"), [("scope", "layers"), ("ramp_shape", "square")])
def test_unknown_words_are_refused(option, value):
    with pytest.raises(ParameterError, match=f"{option}='?{value}"):
        Targeted(**{option: value})
