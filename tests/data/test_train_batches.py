from collections.abc import Callable

import pytest
import torch

from runner.data.images import ImageData, ImageSplit, TrainBatches

Make = Callable[..., ImageData]


def numbered(count: int = 64, size: int = 5, **options: object) -> ImageData:
    """Return images that are blank except for their number in the first pixel, which identifies them in batches."""
    images = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(1, count + 1)
    split = ImageSplit(images, torch.arange(count) % 2)
    return ImageData(split, split, ["even", "odd"], **{"validation": 0, "crop": 0, "flip": False, **options})  # type: ignore[arg-type]


def where(data: ImageData, x: torch.Tensor) -> list[tuple[int, int, int]]:
    """Return (number, row, column) of each image's only bright pixel, or zeros if it was cropped away."""
    pixels = (x * data.std + data.mean).mul(255).round().long()[:, 0]
    found = []
    for image in pixels:
        rows, columns = image.nonzero(as_tuple=True)
        found.append((int(image.max()), int(rows[0]), int(columns[0])) if len(rows) else (0, 0, 0))
    return found


def numbers(data: ImageData, batches: TrainBatches, epoch: int) -> list[list[int]]:
    steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    return [[number for number, _, _ in where(data, batches.batch(step)[0])] for step in steps]


def test_a_batch_depends_on_seed_and_step_alone(make_data: Make) -> None:
    data = make_data(crop=2, flip=True)
    batches = data.train_batches(8, seed=3)
    forward = [batches.batch(step) for step in range(12)]
    for step in (11, 0, 7, 7, 4):
        for again in (batches, make_data(crop=2, flip=True).train_batches(8, seed=3)):
            x, y = again.batch(step)
            assert torch.equal(x, forward[step][0]) and torch.equal(y, forward[step][1])
    assert not torch.equal(forward[0][0], data.train_batches(8, seed=4).batch(0)[0])


def test_writing_into_a_batch_leaves_the_data_alone() -> None:
    data = numbered()
    batches = data.train_batches(8, seed=0)
    first, labels = batches.batch(0)
    expected = first.clone(), labels.clone()
    first.zero_()
    labels.zero_()
    assert all(torch.equal(a, b) for a, b in zip(batches.batch(0), expected, strict=True))


def test_an_epoch_shows_each_image_once_in_an_order_of_its_own() -> None:
    data = numbered(64)
    batches = data.train_batches(8, seed=0)
    assert batches.steps_per_epoch == 8
    epochs = [[number for batch in numbers(data, batches, epoch) for number in batch] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(1, 65)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert tuple(range(1, 65)) not in map(tuple, epochs)


def test_labels_belong_to_their_images() -> None:
    data = numbered(64)
    x, y = data.train_batches(64, seed=0).batch(0)
    assert [(number - 1) % 2 for number, _, _ in where(data, x)] == y.tolist()


def test_an_incomplete_last_batch_is_left_out() -> None:
    data = numbered(20)
    batches = data.train_batches(8, seed=0)
    assert batches.steps_per_epoch == 2
    assert [len(set(batch)) for batch in numbers(data, batches, 0)] == [8, 8]


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    data = numbered(5)
    batches = data.train_batches(8, seed=0)
    assert batches.steps_per_epoch == 1
    assert [sorted(batch) for batch in numbers(data, batches, 1)] == [[1, 2, 3, 4, 5]]


def test_crops_are_spread_over_all_offsets_image_by_image() -> None:
    data = numbered(200, size=5, crop=1)
    seen: dict[tuple[int, int], int] = {}
    x, _ = data.train_batches(200, seed=0).batch(0)
    for number, row, column in where(data, x):
        place = (row, column) if number else (-1, -1)
        seen[place] = seen.get(place, 0) + 1
    # The pixel moves from the corner to the right, down, or not at all, and five of the nine offsets crop it away.
    assert set(seen) == {(0, 0), (0, 1), (1, 0), (1, 1), (-1, -1)}
    assert all(8 <= seen[place] <= 40 for place in set(seen) - {(-1, -1)})


def test_flips_hit_half_of_the_images_and_anew_each_step() -> None:
    data = numbered(200, size=5, flip=True)
    batches = data.train_batches(200, seed=0)
    flipped = [{number for number, _, column in where(data, batches.batch(step)[0]) if column == 4} for step in (0, 1)]
    assert all(70 <= len(numbers) <= 130 for numbers in flipped)
    assert flipped[0] != flipped[1]
    assert all(column in (0, 4) for _, _, column in where(data, batches.batch(0)[0]))


def test_steps_of_an_epoch_are_augmented_differently() -> None:
    data = numbered(64, crop=2)
    batches = data.train_batches(32, seed=0)
    places = [[place[1:] for place in where(data, batches.batch(step)[0])] for step in range(4)]
    assert len({tuple(step) for step in places}) == 4


def test_shifts_are_in_native_pixels_whatever_the_size() -> None:
    data = numbered(64, size=5, crop=1, flip=True)
    native = data.train_batches(64, seed=0).batch(0)[0]
    data.fit(10)
    enlarged = data.train_batches(64, seed=0).batch(0)[0]
    assert torch.equal(enlarged, native.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_torchs_global_generator_is_neither_read_nor_moved(make_data: Make) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    data = make_data(crop=2, flip=True, validation=0.2)
    x, _ = data.train_batches(8, seed=0).batch(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(make_data(crop=2, flip=True, validation=0.2).train_batches(8, seed=0).batch(1)[0], x)


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_bad_batch_size_is_named(make_data: Make, size: int) -> None:
    with pytest.raises(ValueError, match=rf"^batch_size={size}: expected [^\n]+$"):
        make_data().train_batches(size, seed=0)


def test_augmented_batches_are_the_first_training_images_as_training_sees_them() -> None:
    data = numbered(64, size=5, crop=1, flip=True)
    batches = list(data.augmented_batches(limit=50, seed=3, batch_size=20))
    assert [labels.tolist() for _, labels in batches] == [
        labels.tolist() for _, labels in data.eval_batches("train", 50, 20)
    ]
    found = [place for x, _ in batches for place in where(data, x)]
    assert all(number in (0, expected) for expected, (number, _, _) in enumerate(found, 1))
    # The bright pixel in the corner is cropped away, moved by one, or mirrored.
    assert {row for number, row, _ in found if number} == {0, 1}
    assert {column for number, _, column in found if number} == {0, 1, 3, 4}
    again, other = (list(data.augmented_batches(50, seed, 20)) for seed in (3, 4))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, again, strict=True))
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(batches, other, strict=True))


def test_without_augmentation_augmented_batches_are_the_evaluated_ones() -> None:
    data = numbered(64)
    for one, other in zip(data.augmented_batches(50, 0, 20), data.eval_batches("train", 50, 20), strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
