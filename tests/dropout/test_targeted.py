"""Comparison with slow NumPy code, written from the paper's text (sections 2 to 4), entry by entry."""

import numpy as np
import pytest
import torch
from torch import nn

from runner.dropout import Targeted, TargetedUnit, UnitDropout, WeightDropout
from runner.dropout.rates import ramped_gamma, rise
from runner.models.resnet import PreActResNet

SHAPE = (6, 4, 3, 3)  # 36 entries per filter


def layer(seed=0, channels_last=False):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 1))
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model


def drawn(variant, channels_last=False, training=True, draws=1):
    """Return the raw weight and the weights of some forward passes."""
    model = layer(channels_last=channels_last)
    raw = model[0].weight.detach().clone()
    variant.attach(model, ["0"])
    model.train(training)
    return raw.numpy(), [model[0].weight.detach().numpy() for _ in range(draws)]


def targeted_weights(weight, gamma):
    """The complement of eq. 2: in every filter the floor(γ n) entries of smallest magnitude."""
    mask = np.zeros(weight.shape, dtype=bool)
    for o, filter_ in enumerate(weight):
        flat = np.abs(filter_).ravel()
        for i in sorted(range(flat.size), key=lambda i: flat[i])[: int(gamma * flat.size + 1e-9)]:
            mask[(o, *np.unravel_index(i, filter_.shape))] = True
    return mask


def targeted_units(weight, gamma):
    """The complement of eq. 1: the floor(γ m) filters of smallest L2 norm."""
    norms = [np.sqrt((filter_**2).sum()) for filter_ in weight]
    chosen = sorted(range(len(norms)), key=lambda o: norms[o])[: int(gamma * len(norms) + 1e-9)]
    mask = np.zeros(weight.shape, dtype=bool)
    mask[chosen] = True
    return mask


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.75, 1.0])
@pytest.mark.parametrize(("cls", "targets"), [(Targeted, targeted_weights), (TargetedUnit, targeted_units)])
def test_evaluation_prunes_what_is_targeted(cls, targets, gamma, channels_last):
    raw, (weight,) = drawn(cls(0.5, gamma), channels_last, training=False)
    assert np.array_equal(weight, np.where(targets(raw, gamma), 0, raw))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("variant", "targets"),
    [
        (Targeted(0.66, 0.75), targeted_weights),
        (TargetedUnit(0.66, 0.5), targeted_units),
        (TargetedUnit(0.66, 0.5, element=True), targeted_units),
    ],
)
def test_training_drops_targets_alone_at_rate_alpha_and_rescales_nothing(variant, targets, channels_last):
    raw, weights = drawn(variant, channels_last, draws=400)
    mask = targets(raw, variant.gamma)
    assert all(np.array_equal(w[~mask], raw[~mask]) for w in weights)
    kept = np.mean([w[mask] == raw[mask] for w in weights], axis=0)
    assert all(np.isin(w[mask] - raw[mask], np.append(-raw[mask], 0)).all() for w in weights)
    assert np.abs(kept - 0.34).max() < 0.12  # 5 standard deviations of 400 draws
    assert np.abs(kept.mean() - 0.34) < 0.04
    variant.detach()


def test_units_go_whole_and_elements_alone():
    _raw, weights = drawn(TargetedUnit(0.5, 0.5), draws=40)
    dropped = [(w == 0).reshape(6, -1) for w in weights]
    assert all((d.all(1) | ~d.any(1)).all() for d in dropped)
    assert {int(d.all(1).sum()) for d in dropped} > {0, 1}
    _, (element,) = drawn(TargetedUnit(0.5, 0.5, element=True))
    part = (element == 0).reshape(6, -1).mean(1)
    assert ((part > 0) & (part < 1)).sum() == 3


@pytest.mark.parametrize("variant", [Targeted(1, 0.5), TargetedUnit(1, 0.5)])
def test_dropped_weights_get_no_gradient_and_the_others_all_of_it(variant):
    model = layer()
    plain = layer()
    variant.attach(model, ["0"])
    weight = model[0].weight
    (weight * torch.arange(weight.numel()).view(weight.shape)).sum().backward()
    original = model[0].parametrizations.weight.original
    expected = torch.arange(weight.numel(), dtype=torch.float32).view(weight.shape) * (weight != 0)
    assert torch.equal(original.grad, expected)
    assert torch.equal(original, plain[0].weight)


@pytest.mark.parametrize("variant", [Targeted(), TargetedUnit(), WeightDropout(), UnitDropout()])
def test_an_optimiser_made_before_attaching_still_trains_the_layer(variant):
    model = layer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    variant.attach(model, ["0"])
    before = model[0].parametrizations.weight.original.detach().clone()
    model[0](torch.randn(2, 4, 5, 5)).square().sum().backward()
    optimizer.step()
    variant.detach()
    assert not torch.equal(model[0].weight, before)
    assert not hasattr(model[0], "parametrizations")
    assert variant.layers == {}


@pytest.mark.parametrize("cls", [WeightDropout, UnitDropout])
def test_untargeted_dropout_rescales_and_is_off_in_evaluation(cls):
    raw, weights = drawn(cls(0.25), draws=400)
    ratio = np.stack(weights) / raw
    assert np.allclose(np.unique(ratio.round(4)), [0, 1.3333], atol=1e-3)
    assert abs(ratio.mean() - 1) < 0.02
    whole = (ratio == 0).reshape(400, 6, -1)
    assert (whole.all(2) | ~whole.any(2)).all() == (cls is UnitDropout)
    raw, (weight,) = drawn(cls(0.25), training=False)
    assert np.array_equal(weight, raw)
    _, (weight,) = drawn(cls(1.0))
    assert not weight.any()


def test_the_ramp_is_the_papers():
    """PAPER.md 2.3: γ_t = 0.95 γ min(1, g/20000) + 0.05 γ clip((g-20000)/20000, 0, 1), α_t = α min(1, g/40000)."""
    variant = Targeted(0.99, 0.9, ramp=[0.2, 0.4, 0.4])
    for g in range(0, 100_000, 1250):
        variant.before_step(g, 100_000)
        gamma = 0.95 * 0.9 * min(1, g / 20000) + 0.05 * 0.9 * min(max((g - 20000) / 20000, 0), 1)
        assert variant.rates.gamma == pytest.approx(gamma, abs=1e-12)
        assert variant.rates.alpha == pytest.approx(0.99 * min(1, g / 40000), abs=1e-12)


def test_the_ramp_ends_exactly():
    assert ramped_gamma(0.4, 0.99, 0.2, 0.4) == 0.99
    assert ramped_gamma(0.0, 0.99, 0.0, 0.0) == 0.99
    assert rise(0.0, 0.0, 0.0) == 1.0
    over_all_of_it = Targeted(0.5, 0.75, ramp=[0.5, 1.0, 1.0])
    assert (over_all_of_it.rates.alpha, over_all_of_it.rates.gamma) == (0, 0)
    over_all_of_it.before_step(9, 10)
    assert (over_all_of_it.rates.alpha, over_all_of_it.rates.gamma) == (0.5, 0.75)


def test_a_ramping_variants_rates_survive_saving():
    first = Targeted(0.99, 0.9, ramp=[0.2, 0.4, 0.4])
    first.before_step(30, 100)
    second = Targeted(0.99, 0.9, ramp=[0.2, 0.4, 0.4])
    second.load_state_dict(first.state_dict())
    assert (second.rates.alpha, second.rates.gamma) == (first.rates.alpha, first.rates.gamma)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Targeted(alpha=1.5), r"^alpha=1\.5: expected a number from 0 to 1$"),
        (lambda: TargetedUnit(gamma=-0.1), r"^gamma=-0\.1"),
        (lambda: Targeted(ramp=[0.5, 0.2, 0.4]), "^ramp"),
        (lambda: Targeted(ramp=[0.5, 0.2]), "^ramp"),
        (lambda: WeightDropout(float("nan")), "^alpha"),
    ],
)
def test_bad_rates(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_attaching_twice_is_refused():
    variant = Targeted()
    variant.attach(layer(), ["0"])
    with pytest.raises(ValueError, match="attached already"):
        variant.attach(layer(), ["0"])


@pytest.mark.parametrize("cls", [Targeted, TargetedUnit])
def test_a_targeted_network_is_compiled_in_one_graph(cls):
    torch.manual_seed(0)
    model = PreActResNet(channels=1, image_size=8, width=0.25, blocks=1)
    cls(alpha=0.5, gamma=0.5).attach(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 1, 8, 8)
    outputs, gradients = [], []
    for network in (model, compiled):
        torch.manual_seed(1)
        model.zero_grad()
        outputs.append(network(x))
        outputs[-1].square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(gradients[0], gradients[1])
