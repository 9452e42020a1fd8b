import pytest
import torch

from runner.models.layers import parameter_count, prunable_layers
from runner.models.resnet import PreActResNet, ResNet


@pytest.mark.parametrize(
    ("cls", "arguments", "parameters", "prunable"),
    [
        (PreActResNet, {}, 1_857_498, 1_849_344),  # PAPER.md 3.2, issue 15 of the official repository
        (PreActResNet, {"widths": (16, 32, 64)}, 468_890, 463_616),
        (ResNet, {}, 464_154, 460_800),  # He et al., option A
        (ResNet, {"blocks": 3}, 269_722, 267_264),  # ResNet-20: 0.27 M in He et al.'s table 6
    ],
)
def test_parameter_counts_at_the_native_size(cls, arguments, parameters, prunable):
    with torch.device("meta"):
        model = cls(channels=3, image_size=32, classes=10, **arguments)
    assert parameter_count(model) == parameters
    assert sum(layer.weight.numel() for layer in prunable_layers(model).values()) == prunable


def test_the_paper_counts_2464_filters():
    with torch.device("meta"):
        model = PreActResNet()
    assert sum(len(layer.weight) for layer in prunable_layers(model).values()) == 2464


@pytest.mark.parametrize("cls", [PreActResNet, ResNet])
@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 8, 10), (3, 32, 100)])
def test_shapes(cls, channels, size, classes):
    model = cls(channels, size, classes, width=0.25).eval()
    assert model(torch.randn(2, channels, size, size)).shape == (2, classes)


def test_the_stem_is_small_on_small_images():
    assert PreActResNet(image_size=15, width=0.25).stem.kernel_size == (3, 3)
    assert PreActResNet(image_size=16, width=0.25).stem.kernel_size == (7, 7)


def test_the_projection_sees_the_activated_input():
    block = PreActResNet(width=0.25).blocks[0].eval()
    seen = []
    block.shortcut.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    block(torch.randn(2, 4, 8, 8))
    assert (seen[0] >= 0).all()


def test_option_a_pads_with_zeros_and_takes_every_second_pixel():
    block = ResNet(width=0.25).blocks[5].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(1, 4, 8, 8)
    y = block(x)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 6:].any()
