import numpy as np
import torch

from runner.data.normalization import (
    KINDS,
    channel_statistics,
    normalize,
    normalize_channels,
    normalize_images,
    normalize_pixels,
)


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_statistics_are_those_of_numpy() -> None:
    images = pixels(20, 4, 5, 3) // np.array([1, 2, 4], dtype=np.uint8)
    mean, std = channel_statistics(torch.from_numpy(images))
    scaled = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, scaled.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, scaled.std((0, 1, 2)), rtol=1e-6)


def test_a_blank_channel_does_not_divide_by_zero() -> None:
    mean, std = channel_statistics(torch.full((2, 3, 3, 1), 51, dtype=torch.uint8))
    assert mean.item() == np.float32(0.2)
    assert std.item() == np.float32(1 / 255)


def test_by_channel() -> None:
    images = pixels(6, 4, 5, 3)
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.3, 0.5])
    result = normalize_channels(torch.from_numpy(images), mean, std)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result, (images / 255 - mean.numpy()) / std.numpy(), atol=1e-5)


def test_floats_come_out_anew() -> None:
    images = torch.full((1, 2, 2, 1), 100.0)
    normalize_channels(images, torch.tensor([0.5]), torch.tensor([0.5]))
    normalize_images(images)
    normalize_pixels(images)
    assert torch.equal(images, torch.full((1, 2, 2, 1), 100.0))


def test_by_image_as_tensorflow_does() -> None:
    images = pixels(6, 4, 5, 3)
    images[4] = 10
    images[4, 0, 0, 0] = 12  # its standard deviation is below 1 / sqrt(n)
    images[5] = 200
    result = normalize_images(torch.from_numpy(images))
    for image, normalized in zip(images / 255, result.numpy(), strict=True):
        expected = (image - image.mean()) / max(image.std(), 1 / np.sqrt(image.size))
        np.testing.assert_allclose(normalized, expected, atol=1e-5)
    assert torch.all(result[5] == 0)


def test_pixels_are_only_scaled() -> None:
    images = pixels(6, 4, 5, 3)
    images[0, 0, 0] = 0, 128, 255
    result = normalize_pixels(torch.from_numpy(images))
    assert result.dtype == torch.float32
    assert np.array_equal(result, images.astype(np.float32) / np.float32(255))
    assert result[0, 0, 0, 0] == 0
    assert result[0, 0, 0, 2] == 1


def test_each_kind_is_its_function() -> None:
    images, mean, std = (
        torch.from_numpy(pixels(2, 4, 5, 3)),
        torch.tensor([0.1, 0.5, 0.9]),
        torch.tensor([0.2, 0.3, 0.5]),
    )
    functions = {
        "channel": lambda images: normalize_channels(images, mean, std),
        "image": normalize_images,
        "pixel": normalize_pixels,
    }
    assert set(functions) == set(KINDS)
    for kind, function in functions.items():
        assert torch.equal(normalize(kind, images, mean, std), function(images))
