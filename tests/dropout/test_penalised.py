"""Hard concrete, variational, Smallify, L1: compared with NumPy code of PAPER's formulas and finite differences."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from runner.dropout import hard_concrete, noise
from runner.dropout.hard_concrete import HardConcrete, HardConcreteUnit
from runner.dropout.smallify import Smallify, SmallifyUnit
from runner.dropout.variational import Variational, VariationalUnit, kl
from runner.regularizers import L1


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5))
    return model.double().to(memory_format=torch.channels_last)


def attached(variant):
    model = network()
    raw = model[1].weight.detach().clone().contiguous().numpy()
    variant.attach(model, ["1"])
    return model, model[1].parametrizations.weight[0], raw


def gradients_agree(loss, parameter, tolerance=1e-6):
    """Compare central differences at five entries with autograd."""
    (gradient,) = torch.autograd.grad(loss(), parameter)
    places = torch.randperm(parameter.numel(), generator=torch.Generator().manual_seed(1))[:5]
    for place in places:
        index = np.unravel_index(int(place), tuple(parameter.shape))
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter[index] += step
                values.append(loss().item())
                parameter[index] -= step
        assert gradient[index].item() == pytest.approx((values[0] - values[1]) / 2e-5, abs=tolerance)


@pytest.mark.parametrize("cls", [HardConcrete, HardConcreteUnit])
def test_hard_concrete(cls, monkeypatch):
    model, gates, raw = attached(cls(cost=0.1, initial_drop=0.3, examples=100))
    logits = gates.logits.detach().numpy()
    assert logits.mean() == pytest.approx(math.log(0.7) - math.log(0.3), abs=0.02)
    full = logits.reshape(4, 1, 1, 1) if cls is HardConcreteUnit else logits

    u = np.random.default_rng(0).uniform(0.01, 0.99, logits.shape)
    drawn = torch.from_numpy(u).clone().to(memory_format=torch.contiguous_format)
    monkeypatch.setattr(hard_concrete, "uniform_like", lambda tensor: drawn)
    s = sigmoid((logits + np.log(u) - np.log(1 - u)) / (2 / 3))
    z = np.clip(s * (1.1 + 0.1) - 0.1, 0, 1)
    assert np.allclose(model[1].weight.detach(), raw * z.reshape(full.shape))
    gradients_agree(lambda: (model[1].weight ** 2).sum(), gates.logits)

    model.eval()
    z = np.clip(sigmoid(full) * 1.2 - 0.1, 0, 1)
    assert np.allclose(model[1].weight.detach(), raw * z)

    each = 27 if cls is HardConcreteUnit else 1
    variant = cls(cost=0.1, initial_drop=0.3, examples=100)
    variant.attach(other := network(), ["1"])
    mine = other[1].parametrizations.weight[0].logits
    expected = 0.1 / 100 * each * sigmoid(mine.detach().numpy() - 2 / 3 * np.log(0.1 / 1.1)).sum()
    assert variant.penalty().item() == pytest.approx(expected)
    gradients_agree(variant.penalty, mine)


def test_hard_concrete_is_pruned_by_gate():
    variant = HardConcrete(initial_drop=0.3)
    model, gates, _ = attached(variant)
    scores = variant.scores()["weight"]["1"]
    assert torch.equal(scores, gates.logits.detach().contiguous().flatten(1))
    variant = HardConcreteUnit(initial_drop=0.3)
    model, gates, raw = attached(variant)
    assert torch.equal(variant.scores()["unit"]["1"], gates.logits.detach()[:, 0])
    with torch.no_grad():
        gates.logits[2] = -5
    variant.detach()
    assert not model[1].weight[2].any()  # a closed gate is a zero filter
    z = np.clip(sigmoid(gates.logits.detach().numpy()) * 1.2 - 0.1, 0, 1).reshape(4, 1, 1, 1)
    assert np.allclose(model[1].weight.detach(), raw * z)


def log_alpha(w, log_sigma2):
    return np.clip(log_sigma2 - np.log(w**2 + 1e-8), -8, 8)


@pytest.mark.parametrize("cls", [Variational, VariationalUnit])
def test_variational_noise_is_that_of_the_local_reparametrisation(cls, monkeypatch):
    model, noisy, raw = attached(cls())
    with torch.no_grad():
        noisy.log_sigma2.uniform_(-6, 3)
    eps = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    monkeypatch.setattr("runner.dropout.variational.normal_like", lambda tensor, processes: eps)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    sigma2 = noisy.log_sigma2.detach().numpy()
    alpha = np.exp(log_alpha(raw, sigma2.reshape(4, 1, 1, 1) if cls is VariationalUnit else sigma2))

    mean, variance = np.zeros((2, 4, 3, 3)), np.zeros((2, 4, 3, 3))
    for n, o, i, j in np.ndindex(2, 4, 3, 3):
        patch = x[n, :, i : i + 3, j : j + 3].numpy()
        mean[n, o, i, j] = (patch * raw[o]).sum() + model[1].bias[o].item()
        variance[n, o, i, j] = (patch**2 * alpha[o] * raw[o] ** 2).sum()
    assert np.allclose(model[1](x).detach(), mean + np.sqrt(variance + 1e-8) * eps.numpy())
    gradients_agree(lambda: model[1](x).square().sum(), noisy.log_sigma2, 1e-4)

    model.eval()
    assert np.allclose(model[1].weight.detach(), np.where(np.log(alpha) < 3, raw, 0))


@pytest.mark.parametrize("cls", [Variational, VariationalUnit])
def test_variational_penalty_warms_up(cls):
    variant = cls(scale=0.5, warmup=0.5, examples=10)
    _, noisy, raw = attached(variant)
    sigma2 = noisy.log_sigma2.detach().numpy()
    la = log_alpha(raw, sigma2.reshape(4, 1, 1, 1) if cls is VariationalUnit else sigma2)
    expected = -(0.63576 * sigmoid(1.8732 + 1.48695 * la) - 0.5 * np.log(1 + np.exp(-la)) - 0.63576).sum()
    assert kl(torch.from_numpy(la)).item() == pytest.approx(expected)
    for step, rise in ((0, 0), (25, 0.5), (50, 1), (99, 1)):
        variant.before_step(step, 100)
        assert variant.penalty().item() == pytest.approx(0.05 * rise * expected)
    gradients_agree(variant.penalty, noisy.log_sigma2)
    assert ("weight" in variant.scores()) == (cls is Variational)
    if cls is Variational:
        assert np.allclose(variant.scores()["weight"]["1"], -la.reshape(4, -1))


@pytest.mark.parametrize("cls", [Smallify, SmallifyUnit])
def test_smallify_masks_wavering_switches_for_good(cls):
    variant = cls(cost=0.01)
    model, module, raw = attached(variant)
    switch = module.switch
    assert (switch >= 0).all()
    assert (switch < 1).all()
    assert variant.penalty().item() == pytest.approx(0.01 * switch.detach().abs().sum().item())
    gradients_agree(variant.penalty, switch)

    start = np.sign(switch.detach().numpy())
    average, variance, mask = start.copy(), np.zeros_like(start), np.ones_like(start)
    flips = np.arange(start.size).reshape(start.shape) % 2 == 0
    for step in range(12):
        with torch.no_grad():
            switch[torch.from_numpy(flips)] *= -1
        variant.before_step(step, 12)
        sign = np.sign(switch.detach().numpy())
        variance = 0.9 * variance + 0.1 * (sign - average) ** 2
        average = 0.9 * average + 0.1 * sign
        mask = mask * (variance < 0.5)
        assert np.allclose(module.variance, variance)
        assert np.array_equal(module.mask, mask)
    assert mask[flips].max() == 0
    assert mask[~flips].min() == 1
    for step in range(60):
        variant.before_step(step, 60)
    assert not module.variance.max() >= 0.5  # calm again, but still masked
    assert not module.mask[torch.from_numpy(flips)].any()
    factor = (switch * module.mask).detach().numpy()
    expected = raw * (factor.reshape(4, 1, 1, 1) if cls is SmallifyUnit else factor)
    variant.detach()
    assert np.allclose(model[1].weight.detach(), expected)


def test_l1_is_a_mean_a_matrix_over_raw_weights_with_the_stem_and_without_the_logits():
    model = network()
    with torch.no_grad():
        model[0].weight.fill_(-2)
        model[1].weight.fill_(0.5)
    regularizer = L1(0.1)
    regularizer.attach(model)
    Smallify().attach(model, ["1"])
    assert regularizer.penalty().item() == pytest.approx(0.1 * (2 + 0.5))
    regularizer.penalty().backward()
    raw = model[1].parametrizations.weight.original
    assert torch.allclose(raw.grad, torch.full_like(raw, 0.1 / raw.numel()))


def test_l1_leaves_out_what_makes_the_logits_whatever_is_registered_last():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Linear(3, 2)
            self.hidden = nn.Linear(4, 3)

        def forward(self, x):
            return self.logits(self.hidden(x))

    model, regularizer = Model(), L1(1.0)
    regularizer.example = lambda: (torch.zeros(1, 4),)
    regularizer.attach(model)
    assert [tuple(weight.shape) for weight in regularizer.weights] == [(3, 4)]


@pytest.mark.parametrize("channels_last", [False, True])
def test_noise_has_the_tensors_shape_memory_order_and_distribution(channels_last):
    tensor = torch.empty(8, 16, 20, 20)
    if channels_last:
        tensor = tensor.to(memory_format=torch.channels_last)
    torch.manual_seed(0)
    uniform, normal = noise.uniform_like(tensor), noise.normal_like(tensor)
    assert uniform.stride() == normal.stride() == tensor.stride()
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert uniform.mean() == pytest.approx(0.5, abs=0.01)
    assert (normal.mean().item(), normal.std().item()) == pytest.approx((0, 1), abs=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HardConcrete(cost=-1), "^cost=-1"),
        (lambda: HardConcrete(initial_drop=0), "^initial_drop=0"),
        (lambda: Variational(scale=-1), "^scale=-1"),
        (lambda: SmallifyUnit(-1), "^cost=-1"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
