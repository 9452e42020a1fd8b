"""Mean squared error, compared with NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from runner.tasks.metrics import headline_of_task
from runner.tasks.reconstruction import Reconstruction


@pytest.fixture
def halving():
    """A model that reconstructs every pixel as half of it."""
    model = nn.Conv2d(2, 2, 1, bias=False)
    model.weight.data = torch.eye(2).view(2, 2, 1, 1) / 2
    return model


def batches(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(n, 2, 5, 5, generator=generator), torch.zeros(n, dtype=torch.int64)) for n in sizes]


def error(given):
    """Return the mean over all pixels of all images."""
    return float(np.mean((np.concatenate([images.numpy() for images, _ in given]) / 2) ** 2, dtype=np.float64))


def test_a_training_loss_is_the_mean_and_its_metric_a_sum_over_examples(halving):
    (batch,) = batches(7)
    loss, sums, examples = Reconstruction().training_loss(halving, batch)
    assert loss.item() == pytest.approx(error([batch]), rel=1e-6)
    assert list(sums) == [metric.name for metric in Reconstruction.metrics]
    assert sums["mse"].item() == pytest.approx(7 * error([batch]), rel=1e-6)
    assert not sums["mse"].requires_grad
    assert examples == 7
    loss.backward()
    assert halving.weight.grad.any()


@pytest.mark.parametrize("method", ["evaluate", "validate"])
def test_over_batches_every_image_counts_alike(method, halving):
    given = batches(7, 7, 1)
    metrics = getattr(Reconstruction(), method)(halving, given)
    assert metrics["mse"] == metrics["loss"] == pytest.approx(error(given), rel=1e-6)
    assert metrics["examples"] == 15
    assert set(metrics) == {"mse", "loss", "examples"}


def test_errors_are_counted_in_single_precision_under_autocast(halving):
    given = batches(4)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _, _ = Reconstruction().training_loss(halving, given[0])
        metrics = Reconstruction().evaluate(halving, given)
    assert loss.dtype == torch.float32
    # The reconstruction has 8 bits, but the error is not rounded to them.
    assert metrics["mse"] == pytest.approx(error(given), rel=5e-3)
    assert loss.item() == pytest.approx(metrics["mse"], rel=1e-6)


def test_lower_is_better():
    task = Reconstruction()
    assert not headline_of_task(task).higher_is_better
    assert headline_of_task(task) in task.metrics
