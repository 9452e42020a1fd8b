"""Progressive resizing: which size each step has, and what is refused."""

from collections.abc import Callable

import torch

from runner.data.images import ImageData
from runner.data.progressive import ProgressiveBatches, shrink

Make = Callable[..., ImageData]


def test_images_grow_in_equal_phases_and_end_at_full_size(make_data: Make) -> None:
    plain = make_data(crop=2, flip=True).train_batches(8, seed=3)
    full = plain.batch(0)[0].shape[-1]
    batches = ProgressiveBatches(plain, [0.5, 0.75, 1], steps=10)
    sizes = [batches.batch(step)[0].shape[-1] for step in range(12)]
    small, middle = round(0.5 * full), round(0.75 * full)
    # A step after the last one, as in a longer training, has full size.
    assert sizes == [small] * 4 + [middle] * 3 + [full] * 5
    assert (batches.steps_per_epoch, batches.examples_per_step) == (plain.steps_per_epoch, plain.examples_per_step)
    for step in range(12):
        assert torch.equal(batches.batch(step)[1], plain.batch(step)[1])
        assert torch.equal(batches.batch(step)[0], shrink(plain.batch(step)[0], sizes[step] / full))


def test_a_smaller_image_has_the_same_mean_and_memory_format() -> None:
    images = torch.rand(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    small = shrink(images, 0.5)
    assert small.shape == (2, 3, 8, 8) and small.is_contiguous(memory_format=torch.channels_last)
    assert (small.mean((2, 3)) - images.mean((2, 3))).abs().max() < 0.02
    # Antialiasing: a checkerboard is even grey, where picking every second pixel would leave one colour.
    board = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).float().expand(1, 1, 16, 16)
    assert (shrink(board, 0.5) - 0.5).abs().max() < 0.05
    assert shrink(images, 1) is images
    assert shrink(images, 0.01).shape[-1] == 1
