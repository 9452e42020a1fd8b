"""Autoencoders: shapes, sizes, and interfaces for pruning."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from runner.models.autoencoder import Autoencoder, ConvolutionalAutoencoder
from runner.models.layers import feature_places, parameter_count, prunable_layers

BOTH = [Autoencoder, ConvolutionalAutoencoder]


def test_parameters_are_those_of_784_512_128_32_and_back():
    sizes = [784, 512, 128, 32, 128, 512, 784]
    expected = sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
    assert parameter_count(Autoencoder()) == expected


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 9), (1, 13), (1, 28), (3, 32)])
def test_a_reconstruction_has_the_images_shape(cls, channels, size):
    model = cls(channels, size, 10, code=5, width=0.25)
    images = torch.rand(2, channels, size, size)
    for given in (images, images.contiguous(memory_format=torch.channels_last)):
        reconstruction = model(given)
        assert reconstruction.shape == images.shape
        assert torch.equal(reconstruction, model.decode(model.encode(given)))
        assert torch.allclose(reconstruction, model(images), atol=1e-6)
    assert model.encode(images).shape == (2, 5)


@pytest.mark.parametrize("cls", BOTH)
def test_width_multiplies_widths_and_not_the_code(cls):
    half, named = cls(widths=(16, 8), code=6, width=0.5), cls(widths=(8, 4), code=6)
    assert [p.shape for p in half.parameters()] == [p.shape for p in named.parameters()]
    assert half.encode(torch.rand(1, 1, 28, 28)).shape == (1, 6)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("cls", BOTH)
def test_linear_is_linear(cls, linear):
    model = cls(1, 8, 10, linear=linear)
    x, y = torch.rand(2, 1, 1, 8, 8, dtype=torch.float64)
    model = model.double()
    middle = model((x + y) / 2)
    assert torch.allclose(middle, (model(x) + model(y)) / 2) == linear


@pytest.mark.parametrize("cls", BOTH)
def test_code_and_pixels_can_be_negative(cls):
    torch.manual_seed(0)
    model, images = cls(1, 8, 10), torch.rand(20, 1, 8, 8)
    assert (model.encode(images) < 0).any()
    assert (model(images) < 0).any()


def test_prunable_are_all_matrices_but_the_stem_and_those_that_make_the_pixels():
    assert list(prunable_layers(Autoencoder())) == ["encoder.0", "encoder.2", "encoder.4", "decoder.0", "decoder.2"]
    assert list(prunable_layers(ConvolutionalAutoencoder())) == ["encoder.1", "to_code", "from_code", "decoder.0"]


@pytest.mark.parametrize("cls", BOTH)
def test_the_feature_place_is_the_code(cls):
    model = cls(1, 8, 10, code=5)
    (place,) = feature_places(model)
    consumer, producer = model.get_submodule(place.consumer), model.get_submodule(place.producer)
    assert isinstance(consumer, nn.Linear)
    assert isinstance(producer, nn.Linear)
    images, seen = torch.rand(2, 1, 8, 8), []
    consumer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    producer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(images)
    assert all(torch.equal(code, model.encode(images)) for code in seen[:2])


@pytest.mark.parametrize("cls", BOTH)
def test_learns_to_reconstruct(cls):
    """Within a few steps, it explains half of the variance of images made of three patterns."""
    torch.manual_seed(0)
    images = torch.rand(32, 3) @ torch.rand(3, 64)
    images = (images / images.max()).view(-1, 1, 8, 8)
    model = cls(1, 8, 10, widths=(16, 16), code=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (model(images) - images).square().mean()
        loss.backward()
        optimizer.step()
    flat = images.flatten(1)
    assert loss < 0.5 * flat.var(1, correction=0).mean()
