"""LeNet and the MLP."""

import pytest
import torch

from runner.models.layers import parameter_count, prunable_layers
from runner.models.lenet import LeNet
from runner.models.mlp import MLP


@pytest.mark.parametrize(
    ("dense", "parameters"),
    [
        ((120, 84), 62_006),  # the network of PyTorch's CIFAR-10 tutorial
        ((500,), (75 * 6 + 6) + (150 * 16 + 16) + (400 * 500 + 500) + (500 * 10 + 10)),  # PAPER.md 3.5
    ],
)
def test_parameters_of_lenet(dense, parameters):
    with torch.device("meta"):
        model = LeNet(channels=3, image_size=32, classes=10, dense=dense)
    assert parameter_count(model) == parameters


def test_prunable_in_lenet_are_the_second_convolution_and_the_dense_layer():
    assert list(prunable_layers(LeNet())) == ["features.3", "dense.0"]


@pytest.mark.parametrize("size", [LeNet.minimum_size, 16, 28, 33])
def test_shapes_of_lenet(size):
    model = LeNet(1, size, 10, width=0.25)
    assert model(torch.randn(2, 1, size, size)).shape == (2, 10)


def test_below_its_minimum_lenet_says_what_is_wrong():
    with pytest.raises(
        ValueError, match=r"^widths=\[6, 16\]: expected fewer convolutions, as nothing is left of 12 px$"
    ):
        LeNet(1, LeNet.minimum_size - 1, 10)


def test_parameters_of_the_mlp():
    with torch.device("meta"):
        mnist = MLP(channels=1, image_size=28, classes=10)
        toy = MLP(channels=3, image_size=32, classes=10, widths=[10])
    # PAPER.md 3.5 and 2.5: 784-128-64-32-10, and one hidden layer of ten on CIFAR-10.
    assert parameter_count(mnist) == 785 * 128 + 129 * 64 + 65 * 32 + 33 * 10
    assert parameter_count(toy) == 3073 * 10 + 11 * 10


@pytest.mark.parametrize(
    ("widths", "prunable"), [((128, 64, 32), ["hidden.0", "hidden.2", "hidden.4"]), ((10,), ["hidden.0"])]
)
def test_only_the_logits_of_the_mlp_are_not_prunable(widths, prunable):
    assert list(prunable_layers(MLP(widths=widths))) == prunable


def test_shapes_of_the_mlp():
    x = torch.randn(2, 3, 8, 8)
    model = MLP(3, 8, 5, width=0.25)
    assert [layer.out_features for layer in model.hidden[::2]] == [32, 16, 8]
    assert model(x).shape == (2, 5)
    # Every pixel is multiplied by the same weight in any memory format.
    assert torch.allclose(model(x.contiguous(memory_format=torch.channels_last)), model(x))
