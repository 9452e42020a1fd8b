"""The loss as a function of the weights: values, gradient, Hessian."""

import copy

import pytest
import torch
import torch.nn.functional as F

from runner.analyses.coadaptation import surface as module
from runner.analyses.coadaptation.surface import fitting


def _differences(function, theta, directions, step=1e-5):
    """Central differences of a function of θ along directions (k, n)."""
    return torch.stack([(function(theta + step * v) - function(theta - step * v)) / (2 * step) for v in directions])


def test_loss_and_accuracy_are_of_all_examples_together(dense, surface_of):
    model, batches = dense
    logits = model.double()(torch.cat([x for x, _ in batches]).double()).detach()
    labels = torch.cat([y for _, y in batches])
    surface = surface_of(dense)
    level = surface.level(surface.theta)
    assert level.loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-12)
    assert level.accuracy == float((logits.argmax(1) == labels).double().mean())
    assert surface.level(0 * surface.theta).loss != pytest.approx(level.loss)


@pytest.mark.parametrize("network", ["dense", "convolutional"])
def test_the_gradient_is_the_slope_of_the_loss(network, request, surface_of):
    surface = surface_of(request.getfixturevalue(network))
    directions = torch.eye(len(surface.theta), dtype=torch.float64)[::7]
    slopes = _differences(
        lambda theta: torch.tensor(surface.level(theta).loss, dtype=torch.float64), surface.theta, directions
    )
    torch.testing.assert_close(surface.gradient()[::7], slopes, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("network", ["dense", "convolutional"])
def test_the_hessian_is_the_slope_of_the_gradient(network, request, surface_of):
    surface = surface_of(request.getfixturevalue(network))
    n = len(surface.theta)
    theta = surface.theta

    def gradient(at):
        surface.theta = at
        return surface.gradient()

    slopes = _differences(gradient, theta, torch.eye(n, dtype=torch.float64))
    surface.theta = theta
    hessian = surface.hessian(torch.arange(n))
    torch.testing.assert_close(hessian, slopes, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(hessian, hessian.T, rtol=1e-10, atol=1e-13)
    some = torch.tensor([5, 2, n - 1])
    torch.testing.assert_close(surface.hessian(some), hessian[some][:, some])
    directions = torch.randn(4, n, dtype=torch.float64)
    torch.testing.assert_close(surface.products(directions), directions @ hessian)
    torch.testing.assert_close(surface.products(directions[:1]), directions[:1] @ hessian)


def test_pieces_that_fit_into_little_memory_give_the_same(dense, surface_of, monkeypatch):
    directions = torch.randn(5, 114, dtype=torch.float64)
    whole = surface_of(dense)
    expected = whole.products(directions), whole.gradient(), whole.hessian(torch.arange(9))
    monkeypatch.setattr(module, "_NUMBERS", 1200)
    small = surface_of(dense)
    assert (small._examples, small._directions) < (17, 5)
    found = small.products(directions), small.gradient(), small.hessian(torch.arange(9))
    torch.testing.assert_close(found, expected)


def test_how_much_fits():
    assert fitting(weights=30_720, activations=20, numbers=2**28) == (500, 128)
    assert fitting(weights=1_849_344, activations=1_237_002, numbers=2**28) == (36, 1)
    assert fitting(weights=10**9, activations=10**9, numbers=2**28) == (1, 1)


def test_the_model_stays_as_it_is(convolutional, surface_of):
    model, _ = convolutional
    model.train()
    before = copy.deepcopy(model.state_dict())
    surface = surface_of(convolutional)
    surface.level(0 * surface.theta)
    surface.gradient()
    assert model.training
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in model.parameters())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_weights_are_in_contiguous_order_whatever_the_memory_format(convolutional, surface_of):
    model, _ = convolutional
    surface = surface_of(convolutional, dtype=torch.float32)
    torch.testing.assert_close(surface.theta, model.conv.weight.detach().reshape(-1), rtol=0, atol=0)
    torch.testing.assert_close(surface.matrices(surface.theta)["conv"], model.conv.weight.detach(), rtol=0, atol=0)


def test_layers_can_be_named(dense, surface_of):
    surface = surface_of(dense, ["logits", "first"])
    assert surface.shapes == {"logits": (3, 4), "first": (6, 15)}
    assert len(surface.gradient()) == 12 + 90
    with pytest.raises(ValueError, match="layer 'frist' is not in the model; did you mean 'first'"):
        surface_of(dense, ["frist"])


def test_progress_counts_examples_times_directions(dense, surface_of):
    work = []
    surface = surface_of(dense, advance=work.append)
    surface.level(surface.theta)
    surface.gradient()
    surface.products(torch.zeros(3, 114, dtype=torch.float64))
    assert sum(work) == 17 * (1 + 1 + 3)
