import numpy as np
import pytest
import torch

from runner.data.augmentation import crop_and_flip


def slow_crop_and_flip(
    images: np.ndarray, top: np.ndarray, left: np.ndarray, flip: np.ndarray, crop: int
) -> np.ndarray:
    result = np.zeros_like(images)
    count, height, width, channels = images.shape
    for n in range(count):
        for row in range(height):
            for column in range(width):
                source_row = row + top[n] - crop
                source_column = (width - 1 - column if flip[n] else column) + left[n] - crop
                if 0 <= source_row < height and 0 <= source_column < width:
                    for channel in range(channels):
                        result[n, row, column, channel] = images[n, source_row, source_column, channel]
    return result


@pytest.mark.parametrize("crop", [0, 1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_against_a_loop_over_pixels(crop: int, channels: int) -> None:
    random = np.random.default_rng(crop)
    images = random.integers(1, 256, (50, 5, 7, channels), dtype=np.uint8)
    top, left = random.integers(0, 2 * crop + 1, (2, 50))
    flip = random.random(50) < 0.5
    tensors = [torch.from_numpy(array) for array in (images, top, left, flip)]
    result = crop_and_flip(tensors[0], tensors[1], tensors[2], tensors[3], crop)
    assert result.dtype == torch.uint8
    assert result.is_contiguous()
    assert np.array_equal(result.numpy(), slow_crop_and_flip(images, top, left, flip, crop))


def test_without_flips() -> None:
    images = torch.arange(2 * 3 * 3, dtype=torch.uint8).view(2, 3, 3, 1)
    centre = torch.tensor([1, 1])
    assert torch.equal(crop_and_flip(images, centre, centre, None, 1), images)
