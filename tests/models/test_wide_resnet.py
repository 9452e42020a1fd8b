import pytest
import torch

from runner.models.layers import parameter_count, prunable_layers
from runner.models.wide_resnet import WideResNet


@pytest.mark.parametrize(
    ("depth", "widen", "millions"),
    # Zagoruyko & Komodakis, tables 4 and 5; 16-2 is from Zagoruyko & Komodakis (2017), attention transfer.
    [(40, 1, 0.6), (16, 2, 0.7), (40, 4, 8.9), (16, 8, 11.0), (22, 8, 17.2), (28, 10, 36.5), (28, 12, 52.5)],
)
def test_parameter_counts_are_those_of_the_paper(depth, widen, millions):
    with torch.device("meta"):
        model = WideResNet(channels=3, image_size=32, classes=10, depth=depth, widen=widen)
    assert round(parameter_count(model) / 1e6, 1) == millions


def test_parameters_of_28_10_and_its_prunable_layers():
    with torch.device("meta"):
        model = WideResNet()
    assert parameter_count(model) == 36_479_194  # pytorchcv's wrn28_10_cifar10
    prunable = prunable_layers(model)
    assert len(prunable) == 24 + 3
    assert list(prunable)[:3] == ["blocks.0.shortcut", "blocks.0.conv1", "blocks.0.conv2"]
    assert sum(layer.weight.numel() for layer in prunable.values()) == 36_454_400


@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 8, 10), (3, 32, 100)])
def test_shapes(channels, size, classes):
    model = WideResNet(channels, size, classes, depth=10, width=0.1).eval()
    assert model(torch.randn(2, channels, size, size)).shape == (2, classes)


def test_the_narrowest_still_projects_where_it_strides():
    model = WideResNet(depth=10, widen=1, width=0.01).eval()
    assert [block.shortcut is not None for block in model.blocks] == [False, True, True]
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("depth", [4, 27])
def test_a_depth_that_is_not_6n_plus_4_is_refused(depth):
    with pytest.raises(ValueError, match=rf"^depth={depth}: expected 10, 16, "):
        WideResNet(depth=depth)
