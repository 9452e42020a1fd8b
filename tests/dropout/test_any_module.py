"""Variants in other modules: attention, transposed convolutions, weights that no layer is called with."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils import prune as torch_prune

from runner.config.build import build
from runner.config.compose import Composer, options
from runner.dropout import FixedMask, Targeted, TargetedUnit
from runner.dropout.base import WeightVariant
from runner.dropout.targeted_ard import TargetedARD
from runner.dropout.variational import Variational
from runner.errors import UserError
from runner.models.layers import FeaturePlace, prunable_layers
from runner.pruning.apply import prune


@pytest.fixture(scope="session")
def variants(dropout_of):
    """Create the variant of every file in conf/dropout that works on weights."""
    config = Composer("train").single([])

    def make(name):
        variant = build({**config, "dropout": dropout_of(name)}, "dropout")
        return variant if isinstance(variant, WeightVariant) else pytest.skip("no variant of weights")

    return make


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), torch.randn(3, 5, 8), None


def attention():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, kdim=4, vdim=6, batch_first=True)
            self.last = nn.Linear(8, 3)

        def forward(self, x):
            return self.last(self.attention(x, x[..., :4], x[..., :6])[0])

    return Model(), torch.randn(3, 5, 8), None


def transposed():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 6, 3, stride=2), nn.Conv2d(6, 2, 3))
    return model, torch.randn(2, 3, 6, 6), ["1"]


def trained(model, inputs, variant, layers, steps=3):
    variant.attach(model, layers)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(steps):
        variant.before_step(step, steps)
        loss = model(inputs).square().mean() + variant.penalty()
        optimizer.zero_grad()
        loss.backward()
        variant.after_backward(optimizer)
        optimizer.step()


@pytest.mark.parametrize("make", [encoder, attention, transposed])
@pytest.mark.parametrize("name", options("dropout"))
def test_every_variant_of_weights_works_or_says_that_it_can_not(make, name, variants):
    torch.manual_seed(0)
    (model, inputs, layers), variant = make(), variants(name)
    keys = list(model.state_dict())
    if name.startswith("variational") or (name == "targeted_ard" and make is not transposed):
        with pytest.raises(ValueError, match=r"can't be used in layer|Variational takes"):
            variant.attach(model, layers)
        assert not variant.layers
        assert not any(parametrize.is_parametrized(module) for module in model.modules())
        return
    trained(model, inputs, variant, layers)
    own, floors = variant.scores(), {g: variant.floor(g) for g in variant.granularities}
    model.eval()
    with torch.no_grad():
        attached = model(inputs)
        assert torch.equal(copy.deepcopy(model)(inputs), attached)
    variant.detach()
    assert list(model.state_dict()) == keys
    assert not any(parametrize.is_parametrized(module) for module in model.modules())
    for granularity, floor in floors.items():
        prune(model, floor, granularity, layers, own.get(granularity))
    with torch.no_grad():
        assert torch.allclose(model(inputs), attached, atol=1e-5)


@pytest.mark.parametrize("name", ["self_attn.in_proj_weight", "self_attn.out_proj"])
def test_attentions_own_weights_are_really_dropped(name):
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    variant = Targeted(alpha=1, gamma=0.5)
    variant.attach(model, [name])
    model(torch.randn(3, 5, 8)).square().sum().backward()
    parameter = variant.raw_parameter(variant.layers[name])
    assert ((parameter.grad == 0).sum(1) == 4).all()
    smallest = parameter.abs().argsort(1)[:, :4]
    assert not parameter.grad.gather(1, smallest).any()


def test_each_head_of_attention_has_its_own_matrices():
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2)
    masks = prune(model, 0.5, "unit", ["in_proj_weight"])
    gone = (model.in_proj_weight == 0).all(1)
    assert torch.equal(gone, masks["in_proj_weight"][:, 0])
    assert gone.view(6, 4).sum(1).tolist() == [2] * 6


@pytest.mark.parametrize("variant", [Targeted(alpha=1, gamma=0.5), TargetedUnit(alpha=1, gamma=0.5)])
def test_filters_of_a_transposed_convolution_are_in_dim_1(variant):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(6, 4, 3)
    with torch.no_grad():
        layer.weight[:, 1] *= 9  # large filters, and input channels that are small in every filter
        layer.weight[:, 2] *= 9
        layer.weight[:2] *= 0.01
    variant.attach(layer, [""])
    layer(torch.randn(2, 6, 5, 5)).square().sum().backward()
    gone = (variant.raw_parameter(layer).grad == 0).transpose(0, 1).flatten(1)
    expected = [27] * 4 if isinstance(variant, Targeted) and "weight" in variant.granularities else [54, 0, 0, 54]
    assert gone.sum(1).tolist() == expected
    variant.detach()
    masks = prune(layer, 0.5, variant.granularities[0], [""])
    assert torch.equal(masks[""].expand_as(layer.weight).transpose(0, 1).flatten(1), gone)
    assert not layer.weight[masks[""].expand_as(layer.weight)].any()


class Reads(nn.Module):
    """A module that reads the weight of another module's layer."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(F.linear(x, self.inner.weight))


@pytest.mark.parametrize("make", [lambda: TargetedARD(1.0, 0.5), Variational])
def test_a_layer_that_is_never_called_is_an_error_in_training_and_not_silence(make):
    model, variant = Reads(), make()
    variant.attach(model)
    assert model.inner.weight.shape == (4, 4)  # reading the shape does not count as using the weight
    with pytest.raises(UserError, match=r"can't be used in layer 'inner': its weight is used, but .* never called"):
        model(torch.ones(2, 4))
    model.eval()(torch.ones(2, 4))  # nothing is checked in evaluation
    model.train()
    variant.detach()
    model(torch.ones(2, 4))
    called = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    variant.attach(called)
    called(torch.ones(2, 4))


def test_pruning_while_a_variant_is_attached_is_refused():
    model, variant = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), Targeted(0.5, 0.5)
    variant.attach(model)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"^the weight of layer '0' is computed .* attached, detach\(\) it first$"):
        prune(model, 0.5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    variant.detach()
    prune(model, 0.5)
    assert int((model[0].weight == 0).sum()) == 8
    torch_prune.l1_unstructured(model[0], "weight", amount=0.5)  # PyTorch's own pruning computes the weight too
    with pytest.raises(ValueError, match=r"^the weight of layer '0' is computed"):
        prune(model, 0.9)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
}


@pytest.mark.parametrize("granularity", ["weight", "unit"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", [transposed, encoder])
def test_fine_tuning_with_a_fixed_mask_brings_nothing_back(granularity, optimizer, make):
    """Also with an optimizer that already has momentum, which would move zeros immediately without the mask."""
    torch.manual_seed(0)
    model, inputs, layers = make()
    made = OPTIMIZERS[optimizer](model.parameters())

    def step():
        made.zero_grad()
        (model(inputs) - 1).square().mean().backward()
        made.step()

    for _ in range(3):
        step()
    masks = prune(model, 0.5, granularity, layers)
    pruned = {name: module.weight.clone() for name, module in prunable_layers(model, layers).items()}
    kept = FixedMask(masks)
    kept.attach(model)
    for _ in range(3):
        step()
        for name, layer in kept.layers.items():
            assert not layer.weight[masks[name].expand_as(layer.weight)].any()
    kept.detach()
    for name, layer in prunable_layers(model, layers).items():
        gone = masks[name].expand_as(layer.weight)
        assert gone.any()
        assert torch.equal(layer.weight == 0, gone)
        assert (layer.weight != pruned[name])[~gone].any()


def test_a_fixed_mask_of_features_and_of_nothing():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model.feature_places = [FeaturePlace("2", "0", -1)]
    masks = prune(model, 0.5, "feature")
    kept = FixedMask(masks)
    kept.attach(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    (model(torch.randn(3, 4)) - 1).square().mean().backward()
    optimizer.step()
    kept.detach()
    assert all(torch.equal(model.get_submodule(name).weight == 0, mask) for name, mask in masks.items())
    with pytest.raises(ValueError, match="no masks"):
        FixedMask({}).attach(model)
