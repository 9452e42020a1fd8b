"""Variants under optimizers, dtypes and calls that training with `run train` does not have."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from runner.dropout import FixedMask
from runner.dropout.features import FeatureDropout
from runner.dropout.groups import TargetedGroups
from runner.dropout.hard_concrete import HardConcrete, HardConcreteUnit
from runner.dropout.matryoshka import Matryoshka, Slimmable
from runner.dropout.rates import Rates
from runner.dropout.rigl import RigL
from runner.dropout.smallify import Smallify
from runner.dropout.standard import UnitDropout, WeightDropout
from runner.dropout.tail import Tail
from runner.dropout.targeted import Targeted, TargetedUnit
from runner.dropout.variational import Variational
from runner.models.layers import FeaturePlace
from runner.pruning.apply import prune
from runner.regularizers import L1
from runner.tasks.classification import Classification

LAYERS = ["0", "2"]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def raw(model: nn.Sequential) -> dict[str, Tensor]:
    return {name: model[int(name)].parametrizations.weight.original.detach().clone() for name in LAYERS}


def pruned(weights: dict[str, Tensor], *how: Any, **more: Any) -> dict[str, Tensor]:
    """Return the masks by which a plain network with these weights is pruned."""
    model = network()
    with torch.no_grad():
        for name, weight in weights.items():
            model[int(name)].weight.copy_(weight)
    return {name: mask.expand(8, 8) for name, mask in prune(model, 0.5, *how, layers=LAYERS, **more).items()}


def removed(model: nn.Sequential) -> dict[str, Tensor]:
    """Return which weights are zero in evaluation, after a pass of the whole model."""
    model.eval()(torch.ones(1, 8))
    return {name: model[int(name)].weight == 0 for name in LAYERS}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name in LAYERS:
        assert torch.equal(one[name], other[name])


@pytest.mark.parametrize("make", [lambda: Targeted(1.0, 0.5, scope="global"), lambda: TargetedGroups("n_of_m", 1.0)])
def test_masks_follow_weights_that_change_without_a_trace(make: Callable[[], Any]) -> None:
    """Fused optimizers do not count a weight's versions, nor does `data`."""
    model, variant = network(), make()
    variant.attach(model, LAYERS)
    how = (["weight"], {"scope": "global"}) if isinstance(variant, Targeted) else (["n_of_m"], {})
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for _ in range(20):
        optimizer.zero_grad()
        model.train()(torch.randn(16, 8)).square().mean().backward()
        optimizer.step()
    assert_equal(removed(model), pruned(raw(model), *how[0], **how[1]))
    model.train()(torch.ones(1, 8))
    for name in LAYERS:
        model[int(name)].parametrizations.weight.original.data.copy_(torch.randn(8, 8))
    assert_equal(removed(model), pruned(raw(model), *how[0], **how[1]))


def test_masks_follow_weights_that_are_replaced() -> None:
    model, variant = network(), Targeted(1.0, 0.5, scope="global")
    variant.attach(model, LAYERS)
    model.load_state_dict({name: torch.randn_like(value) for name, value in model.state_dict().items()}, assign=True)
    assert_equal(removed(model), pruned(raw(model), scope="global"))


def test_a_ramp_whose_ends_coincide() -> None:
    rates = Rates(1.0, 0.5, ramp=[0.4, 0.4, 0.4])
    rates.before_step(39, 100)
    assert rates.gamma == pytest.approx(0.5 * 0.95 * 39 / 40)
    rates.before_step(40, 100)
    assert (rates.gamma, rates.alpha) == (0.5, 1.0)


def moved(model: nn.Module, layers: list[str], batches: list[Tensor], twice: bool = False) -> Tensor:
    """Return the mask of a layer after one update of RigL with gradients accumulated over the batches."""
    torch.manual_seed(1)
    variant = RigL(0.5, "uniform", drop=1.0, updates=2, end=1.0)
    variant.attach(model, layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    variant.before_step(5, 10)
    assert variant.moved > 0
    for batch in batches:
        out = model(model(batch)) if twice else model(batch)
        (out.square().sum() / sum(map(len, batches))).backward()
    variant.after_backward(optimizer)
    return variant.parametrizations()[layers[0]].kept.clone()


def test_rigl_grows_by_the_gradient_of_all_batches_of_a_step() -> None:
    batch = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    whole, halves, last = (moved(network(), ["2"], b) for b in ([batch], [batch[:8], batch[8:]], [batch[8:]]))
    assert torch.equal(whole, halves)
    assert not torch.equal(whole, last)


def test_rigl_grows_by_the_gradient_of_all_calls_of_a_layer() -> None:
    layer, batch = nn.Sequential(nn.Linear(8, 8, bias=False)), torch.randn(16, 8)
    torch.manual_seed(1)
    variant = RigL(0.5, "uniform", updates=2, end=1.0)
    variant.attach(layer, ["0"])
    variant.before_step(5, 10)
    connections = variant.parametrizations()["0"]
    layer(layer(batch)).square().sum().backward()
    dense = (layer[0].weight.detach()).clone().requires_grad_()
    (batch @ dense.T @ dense.T).square().sum().backward()
    assert torch.allclose(connections.gradient(), dense.grad, rtol=1e-4)


def test_groups_are_drawn_anew_where_parts_of_a_model_are_called() -> None:
    model, variant = network(), TargetedGroups("n_of_m", 0.5)
    variant.attach(model, LAYERS)
    copied, x = copy.deepcopy(model), torch.randn(4, 8)

    def parts() -> Tensor:
        h = x
        for layer in model:
            h = layer(h)
        return h

    for call in (parts, lambda: copied(x), lambda: model(x), parts):
        assert len({tuple(call().flatten().tolist()) for _ in range(10)}) > 5


def test_weights_with_another_parametrization_are_refused() -> None:
    model = network()
    kept = FixedMask({"0": torch.zeros(8, 8, dtype=torch.bool)})
    kept.attach(model)
    for variant in (Targeted(), RigL(), HardConcrete()):
        with pytest.raises(ValueError, match="layer '0' is computed by another parametrization"):
            variant.attach(model, ["2", "0"])
        assert not hasattr(model[2], "parametrizations")
    kept.detach()
    parametrizations.spectral_norm(model[0])
    with pytest.warns(FutureWarning):
        weight_norm(model[2])
    for name in LAYERS:
        with pytest.raises(ValueError, match="another parametrization"):
            Targeted().attach(model, [name])


@pytest.mark.parametrize(
    ("masks", "layers", "message"),
    [
        ({"0": torch.ones(8, 8).bool(), "2": torch.ones(8, 7).bool()}, None, "expected one that broadcasts over"),
        ({"0": torch.ones(8, 8).bool()}, ["0", "4"], "no mask for layer '4'"),
    ],
)
def test_masks_that_do_not_fit_change_nothing(masks: dict[str, Tensor], layers: Any, message: str) -> None:
    model = network()
    with pytest.raises(ValueError, match=message):
        FixedMask(masks).attach(model, layers)
    assert all(bool(parameter.count_nonzero()) for parameter in model.parameters())
    assert not hasattr(model[0], "parametrizations")


def placed() -> nn.Sequential:
    model = network()
    model.feature_places = (FeaturePlace("2", "0", -1), FeaturePlace("4", "2", -1))
    return model


def test_an_unknown_place_changes_nothing() -> None:
    model = placed()
    with pytest.raises(ValueError, match="nope"):
        Tail(places=["2", "nope"]).attach(model)
    assert not model[2]._forward_pre_hooks


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("make", [WeightDropout, UnitDropout, HardConcrete, HardConcreteUnit])
def test_other_dtypes(make: Callable[[], Any], dtype: torch.dtype) -> None:
    model = network().to(dtype)
    make().attach(model, LAYERS)
    assert model(torch.ones(2, 8, dtype=dtype)).dtype == dtype


def test_filters_of_bf16_are_ranked_as_by_the_sweep() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 3)).bfloat16()
    plain, variant = copy.deepcopy(model), TargetedUnit(1.0, 0.5)
    variant.attach(model, ["0"])
    mask = prune(plain, 0.5, "unit", layers=["0"])["0"]
    assert torch.equal(model.eval()[0].weight == 0, mask.expand(256, 64))


def test_dropout_of_channels_in_any_number_of_dimensions() -> None:
    for conv, shape in ((nn.Conv1d, (2, 8, 4)), (nn.Conv2d, (2, 8, 4, 4)), (nn.Conv3d, (2, 8, 4, 4, 4))):
        seen: list[Tensor] = []
        model = nn.Sequential(conv(8, 8, 1), conv(8, 2, 1))
        model.feature_places = (FeaturePlace("1", "0", 1),)
        FeatureDropout(0.5).attach(model)
        model[1].register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        model(torch.ones(shape))
        zero = (seen[0] == 0).flatten(2)
        assert torch.equal(zero.all(2), zero.any(2))
        assert zero.any()


@pytest.mark.parametrize("make", [Matryoshka, Slimmable])
def test_a_pass_outside_a_training_step_is_refused_also_later(make: Callable[[], Any]) -> None:
    model, variant = placed(), make()
    variant.attach(model)
    batch = (torch.randn(4, 8), torch.tensor([0, 1, 2, 0]))
    variant.training_loss(Classification(), model, batch)[0].backward()
    with pytest.raises(RuntimeError, match="call training_loss"):
        model(batch[0])


def test_no_penalty_of_what_is_not_attached() -> None:
    for variant in (HardConcrete(), Smallify(), Variational()):
        model = network()
        variant.attach(model, LAYERS)
        assert isinstance(variant.penalty(), Tensor)
        variant.detach()
        assert variant.penalty() == 0
    alone = L1()
    alone.attach(nn.Sequential(nn.Linear(2, 2)))
    assert alone.penalty() == 0
