import pytest
import torch
from torch import nn

from runner.models.layers import parameter_count, prunable_layers
from runner.models.vgg import VGG

# torchvision's vgg16 at 224 px and 1000 classes, configuration D of Simonyan & Zisserman: 138,357,544. It has 4,224
# biases of convolutions where our network has as many pairs of BatchNorm parameters, and no BatchNorm after its dense
# layers.
CONVOLUTION_FILTERS = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512
OURS_MORE = CONVOLUTION_FILTERS + 2 * 2 * 4096


def test_parameters_are_those_of_configuration_d_but_for_batch_norm():
    with torch.device("meta"):
        model = VGG(channels=3, image_size=224, classes=1000)
    assert parameter_count(model) == 138_357_544 + OURS_MORE


def test_parameters_at_32_px():
    with torch.device("meta"):
        model = VGG(channels=3, image_size=32, classes=100)
    shrunk = (7 * 7 - 1) * 512 * 4096 + 900 * (4096 + 1)  # the dense layers see a single pixel; 900 classes fewer
    assert parameter_count(model) == 138_357_544 + OURS_MORE - shrunk == 34_027_556
    prunable = prunable_layers(model)
    assert len(prunable) == 12 + 2
    # All 14,710,464 weights of the convolutions except the stem's, and those of the dense layers.
    assert (
        sum(layer.weight.numel() for layer in prunable.values()) == 14_710_464 - 9 * 3 * 64 + 512 * 4096 + 4096 * 4096
    )
    assert not any(layer is model.features[0] or layer is model.logits for layer in prunable.values())


@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 32, 10), (3, 36, 100), (3, 64, 2)])
def test_shapes(channels, size, classes):
    model = VGG(channels, size, classes, width=1 / 16).eval()
    assert model(torch.randn(2, channels, size, size)).shape == (2, classes)


def test_five_pools_and_no_relu_between_the_dense_layers():
    with torch.device("meta"):
        model = VGG()
    assert sum(isinstance(module, nn.MaxPool2d) for module in model.features) == 5
    assert [type(module) for module in model.dense] == [nn.Linear, nn.BatchNorm1d] * 2


def test_each_block_needs_its_number_of_convolutions():
    with pytest.raises(ValueError, match=r"^stages=\[2, 2\]: expected one number for each of the 5 widths$"):
        VGG(stages=[2, 2])
