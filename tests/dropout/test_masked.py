"""Random targets, delayed pruning, Xtreme, ARD, gradual magnitude pruning, RigL."""

import numpy as np
import pytest
import torch
from torch import nn

from runner.densities import erk_densities
from runner.dropout.delayed import Delayed, DelayedUnit
from runner.dropout.gradual_magnitude import GradualMagnitude
from runner.dropout.random_targeted import RandomTargeted, RandomTargetedUnit
from runner.dropout.rigl import RigL
from runner.dropout.targeted_ard import TargetedARD
from runner.dropout.xtreme import Xtreme


def network(channels_last=True):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3), nn.Flatten(), nn.Linear(40, 20), nn.Linear(20, 5))
    return model.to(memory_format=torch.channels_last) if channels_last else model


def step(model, optimizer, variant=None, inputs=None):
    inputs = torch.randn(4, 3, 6, 6) if inputs is None else inputs
    optimizer.zero_grad()
    model(inputs).square().sum().backward()
    if variant is not None:
        variant.after_backward(optimizer)
    optimizer.step()


@pytest.mark.parametrize(("cls", "count"), [(RandomTargeted, 10 * 54), (RandomTargetedUnit, 7 * 72)])
def test_random_targets_stay_the_same_and_are_exact(cls, count):
    model = network()
    variant = cls(alpha=0.5, gamma=0.75)
    variant.attach(model)
    kept = torch.zeros_like(model[1].weight)
    draws = [(model[1].weight != 0) for _ in range(200)]
    never = torch.stack(draws).all(0)
    assert (~never).sum() == count  # the targeted ones, regardless of magnitude
    rate = torch.stack(draws).float().mean(0)[~never].mean()
    assert rate == pytest.approx(0.5, abs=0.05)
    if cls is RandomTargetedUnit:
        assert all((d.flatten(1).all(1) | ~d.flatten(1).any(1)).all() for d in draws)
    model.eval()
    kept = model[1].weight != 0
    assert torch.equal(kept, never)
    granularity = variant.granularities[0]
    scores = variant.scores()[granularity]["1"]
    lowest = scores.argsort(dim=-1)[..., : int(0.75 * scores.shape[-1])]
    expected = torch.ones_like(scores, dtype=torch.bool).scatter_(-1, lowest, False)
    assert torch.equal(kept.flatten(1) if granularity == "weight" else kept.flatten(1).any(1), expected)


@pytest.mark.parametrize("cls", [RandomTargeted, RandomTargetedUnit])
def test_random_pruning_never_uses_its_targets(cls):
    model = network()
    variant = cls(alpha=1.0, gamma=0.75)
    variant.attach(model)
    raw = model[1].parametrizations.weight.original
    before, gone = raw.detach().clone(), model[1].weight == 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(3):
        step(model, optimizer)
        assert torch.equal(model[1].weight == 0, gone)
    assert torch.equal(raw[gone], before[gone])
    assert not torch.equal(raw[~gone], before[~gone])


@pytest.mark.parametrize(("cls", "axis"), [(Delayed, 1), (DelayedUnit, 0)])
def test_delayed_prunes_hard_from_its_start_in_training_too(cls, axis):
    model = network()
    variant = cls(gamma=0.5, start=0.3)
    variant.attach(model)
    for at, zeros in ((0, 0), (29, 0), (30, 360), (99, 360)):
        variant.before_step(at, 100)
        for mode in (model.train(), model.eval()):
            assert int((mode[1].weight == 0).sum()) == zeros
    smallest = model[1].parametrizations.weight.original.detach().flatten(1)
    variant.detach()
    gone = (model[1].weight == 0).flatten(1)
    if axis:
        assert (
            smallest.abs().masked_fill(~gone, 0).max(1).values <= smallest.abs().masked_fill(gone, 9).min(1).values
        ).all()
    else:
        norms = smallest.norm(dim=1)
        assert norms[gone.all(1)].max() < norms[~gone.any(1)].min()


def test_xtreme_keeps_a_fixed_number_of_the_largest_weights_a_filter():
    model = network()
    variant = Xtreme(kept=3)
    variant.attach(model)
    raw = model[1].parametrizations.weight.original.detach().contiguous().flatten(1)
    variant.before_step(90, 100)
    variant.detach()
    for layer, n in ((1, 10), (3, 20)):
        assert (model[layer].weight != 0).flatten(1).sum(1).tolist() == [3] * n
    kept = (model[1].weight != 0).flatten(1)
    for row, mask in zip(raw.abs(), kept, strict=True):
        assert set(row.topk(3).indices.tolist()) == set(mask.nonzero().flatten().tolist())


def test_ard_targets_input_channels_by_norm_times_activation():
    model = network()
    variant = TargetedARD(alpha=1.0, gamma=0.5)
    variant.attach(model)
    seen = []
    model[1].register_forward_pre_hook(lambda m, i: seen.append(i[0].detach()))
    model(torch.randn(4, 3, 6, 6))
    raw = model[1].parametrizations.weight.original.detach().numpy()
    activation = np.abs(seen[0].numpy()).mean((0, 2, 3))
    scores = [np.sqrt((raw[:, i] ** 2).sum()) * activation[i] for i in range(8)]
    targeted = set(np.argsort(scores)[:4].tolist())
    weight = model[1].weight.detach()
    assert {i for i in range(8) if not weight[:, i].any()} == targeted
    assert all(np.array_equal(weight[:, i], raw[:, i]) for i in range(8) if i not in targeted)
    model.eval()
    assert np.array_equal(model[1].weight.detach(), raw)
    variant.detach()
    assert not model[1]._forward_pre_hooks or len(model[1]._forward_pre_hooks) == 1


def test_gradual_sparsity_is_zhu_and_guptas_cubic():
    model = network()
    variant = GradualMagnitude(sparsity=0.9, start=0.1, end=0.6, updates=10)
    variant.attach(model)
    for at in range(100):
        variant.before_step(at, 100)
        jumps = min(10, max(0, int(((at + 1) / 100 - 0.1) / 0.5 * 10 + 1e-9)))
        sparsity = 0.9 - 0.9 * (1 - jumps / 10) ** 3
        for layer, n in ((1, 72), (3, 40)):
            zeros = (model[layer].weight == 0).flatten(1).sum(1)
            assert set(zeros.tolist()) == {int(sparsity * n + 1e-9)}
    variant.detach()
    assert set((model[1].weight == 0).flatten(1).sum(1).tolist()) == {64}


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
def test_erk_densities_follow_the_formula_and_give_the_whole_its_density(density):
    shapes = {"small": torch.Size([4, 4, 1, 1]), "wide": torch.Size([64, 64, 3, 3]), "flat": torch.Size([100, 50])}
    densities = erk_densities(shapes, density)
    total = sum(shape.numel() for shape in shapes.values())
    assert sum(densities[n] * s.numel() for n, s in shapes.items()) == pytest.approx(density * total)
    assert all(0 < d <= 1 for d in densities.values())
    raw = {name: sum(shape) / shape.numel() for name, shape in shapes.items()}
    sparse = [name for name in shapes if densities[name] < 1]
    assert len({round(densities[name] / raw[name], 6) for name in sparse}) == 1


@pytest.mark.parametrize("distribution", ["erk", "uniform"])
def test_rigl_keeps_its_number_of_weights_exactly_through_momentum_and_decay(distribution):
    model = network()
    variant = RigL(sparsity=0.8, distribution=distribution, updates=5)
    variant.attach(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    modules = variant.parametrizations()
    active = {name: int(module.kept.sum()) for name, module in modules.items()}
    if distribution == "uniform":
        assert active == {"1": 144, "3": 160}
    assert sum(active.values()) == pytest.approx(0.2 * (720 + 800), abs=2)
    moved = 0
    for at in range(20):
        before = {name: module.kept.clone() for name, module in modules.items()}
        variant.before_step(at, 20)
        step(model, optimizer, variant)
        for name, module in modules.items():
            raw = model.get_submodule(name).parametrizations.weight.original
            assert int(module.kept.sum()) == active[name]
            assert not raw[~module.kept].any()
            moved += int((module.kept != before[name]).sum())
        assert (at <= 15) or not any((module.kept != before[n]).any() for n, module in modules.items())
    assert moved > 0


def test_rigl_drops_the_smallest_and_grows_where_the_dense_gradient_is_largest():
    model = network()
    variant = RigL(sparsity=0.5, distribution="uniform", drop=0.4, end=1.0, updates=2)
    variant.attach(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    module = variant.parametrizations()["1"]
    raw = model[1].parametrizations.weight.original
    inputs = torch.randn(4, 3, 6, 6)
    variant.before_step(0, 2)
    step(model, optimizer, variant, inputs)
    active, weight = module.kept.clone(), raw.detach().clone()

    dense = network()
    plain = {n.replace("parametrizations.weight.original", "weight"): t for n, t in model.state_dict().items()}
    dense.load_state_dict({n: t for n, t in plain.items() if "kept" not in n})
    dense(inputs).square().sum().backward()
    gradient = dense[1].weight.grad.abs()

    variant.before_step(1, 2)
    assert variant.moved == pytest.approx(0.4 / 2 * (1 + np.cos(np.pi / 2)))
    step(model, optimizer, variant, inputs)
    k = int(variant.moved * 360 + 1e-9)
    order = [i for i in weight.abs().flatten().argsort().tolist() if active.flatten()[i]]
    stays = active.flatten().clone()
    stays[order[:k]] = False
    candidates = sorted((i for i in range(720) if not stays[i]), key=lambda i: -gradient.flatten()[i])[:k]
    expected = stays.clone()
    expected[candidates] = True
    assert torch.equal(module.kept.flatten(), expected)
    momentum = optimizer.state[raw]["momentum_buffer"]
    changed = expected != active.flatten()
    assert not momentum.flatten()[changed].any()
    after, before = raw.detach().flatten(), weight.flatten()
    regrown = [i for i in candidates if active.flatten()[i]]
    assert regrown, "the gradient of some dropped weight is among the largest"
    assert torch.equal(after[regrown], before[regrown]), "it keeps its value, as in the official code"
    assert momentum.flatten()[regrown].all()
    assert not after[[i for i in candidates if i not in regrown]].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RigL(distribution="even"), "distribution='even'"),
        (lambda: RigL(updates=0), "^updates=0"),
        (lambda: GradualMagnitude(start=0.5, end=0.5), "^start=0.5"),
        (lambda: Xtreme(kept=0), "^kept=0"),
        (lambda: Delayed(start=2), "^start=2"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
