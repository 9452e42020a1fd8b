from collections.abc import Callable

import numpy as np
import pytest
import torch

from runner.data.images import ImageData, ImageSplit

Make = Callable[..., ImageData]


def test_validation_is_taken_from_training_and_counts_are_told(make_data: Make) -> None:
    data = make_data(count=40, classes=4, validation=0.2)
    assert data.splits == ("train", "validation", "test")
    assert data.sizes() == {"train": 32, "validation": 8, "test": 12}
    assert data.validation.labels.bincount().tolist() == [2, 2, 2, 2]
    whole = make_data(count=40, classes=4, validation=0)
    assert whole.splits == ("train", "test")
    together = torch.cat([data.train.images, data.validation.images])
    assert sorted(image.numpy().tobytes() for image in together) == sorted(
        image.numpy().tobytes() for image in whole.train.images
    )


def test_statistics_come_from_the_training_split_alone(make_data: Make) -> None:
    data = make_data(validation=0.5)
    scaled = data.train.images.double() / 255
    assert torch.allclose(data.mean.double(), scaled.mean((0, 2, 3)))
    assert torch.allclose(data.std.double(), scaled.std((0, 2, 3), correction=0))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", [(1, None), (11, None), (1, 9)])
def test_batches_are_channels_last_floats_of_the_fitted_size(
    make_data: Make, channels: int, fit: tuple[int, int | None]
) -> None:
    data = make_data(channels=channels, crop=1, flip=True)
    data.fit(*fit)
    size = data.model_arguments()["image_size"]
    for x, y in (data.train_batches(8, seed=0).batch(0), next(data.eval_batches("test", batch_size=8))):
        assert x.shape == (8, channels, size, size) and x.dtype == torch.float32
        assert x.stride() == (size * size * channels, 1, size * channels, channels)
        assert y.shape == (8,) and y.dtype == torch.int64


def test_evaluation_keeps_the_order_and_the_limit(make_data: Make) -> None:
    data = make_data()
    batches = list(data.eval_batches("test", limit=7, batch_size=3))
    assert [len(y) for _, y in batches] == [3, 3, 1]
    expected = (data.test.images[:7].double() / 255 - data.mean.view(3, 1, 1)) / data.std.view(3, 1, 1)
    assert torch.allclose(torch.cat([x for x, _ in batches]).double(), expected, atol=1e-5)
    assert torch.equal(torch.cat([y for _, y in batches]), data.test.labels[:7])
    assert sum(len(y) for _, y in data.eval_batches("train")) == 40


def test_evaluating_a_split_without_images_is_an_error_at_once(make_data: Make) -> None:
    with pytest.raises(ValueError, match="'validation' holds no images; those that do: train, test"):
        make_data(validation=0).eval_batches("validation")


def test_images_are_enlarged_by_the_smallest_whole_factor(make_data: Make) -> None:
    data = make_data(size=6)
    for minimum, size in ((1, 6), (6, 6), (7, 12), (12, 12), (13, 18)):
        data.fit(minimum)
        assert data.model_arguments() == {"channels": 3, "image_size": size, "classes": 4}
    x, _ = next(data.eval_batches("test"))
    data.fit(1)
    native, _ = next(data.eval_batches("test"))
    assert np.array_equal(x, native.numpy().repeat(3, 2).repeat(3, 3))


def test_input_size_is_exact_and_overrides(make_data: Make) -> None:
    data = make_data(size=6)
    native, _ = next(data.eval_batches("test"))
    data.fit(12, input_size=3)
    x, _ = next(data.eval_batches("test"))
    # Halving the size by bilinear interpolation at pixel centres averages 2x2 pixels.
    assert torch.allclose(x, torch.nn.functional.avg_pool2d(native, 2), atol=1e-5)
    data.fit(12)
    assert data.model_arguments()["image_size"] == 12
    with pytest.raises(ValueError, match=r"^input_size=0: "):
        data.fit(12, input_size=0)


def test_image_normalization_is_used(make_data: Make) -> None:
    data = make_data(normalize="image", crop=2)
    for x in (next(data.eval_batches("test"))[0], data.train_batches(8, seed=0).batch(0)[0]):
        assert torch.allclose(x.mean((1, 2, 3)), torch.zeros(len(x)), atol=1e-5)
        assert torch.allclose(x.std((1, 2, 3), correction=0), torch.ones(len(x)), atol=1e-4)


def test_pixels_are_seen_as_they_are(make_data: Make) -> None:
    data = make_data(normalize="pixel", crop=0)
    x, _ = next(data.eval_batches("test"))
    np.testing.assert_allclose(x, data.test.images[: len(x)] / 255, rtol=1e-6)


def test_moving_moves_everything(make_data: Make) -> None:
    data = make_data(validation=0.2)
    assert data.to("meta") is data
    splits = (data.train, data.validation, data.test)
    assert {tensor.device.type for split in splits for tensor in (split.images, split.labels)} == {"meta"}
    assert data.device.type == data.mean.device.type == data.std.device.type == "meta"


@pytest.mark.parametrize(
    ("option", "value"),
    [("crop", -1), ("crop", 1.5), ("crop", True), ("flip", 1), ("normalize", "batch"), ("validation", 1)],
)
def test_a_bad_option_is_named_with_its_value(make_data: Make, option: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{option}={value!r}: expected [^\n]+$"):
        make_data(**{option: value})


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(2).long(), "training images are torch.float32"),
        (torch.zeros(2, 1, 4, 5).byte(), torch.zeros(2).long(), r"training images are torch.uint8 \(2, 1, 4, 5\)"),
        (torch.zeros(2, 1, 4, 4).byte(), torch.zeros(3).long(), "training labels are"),
        (torch.zeros(2, 1, 4, 4).byte(), torch.tensor([0, 2]), "training labels are 0 to 2"),
        (torch.zeros(0, 1, 4, 4).byte(), torch.zeros(0).long(), "training split holds no images"),
        (torch.zeros(2, 3, 4, 4).byte(), torch.zeros(2).long(), "differ"),
    ],
)
def test_splits_that_are_none(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    test = ImageSplit(torch.zeros(2, 1, 4, 4).byte(), torch.zeros(2).long())
    with pytest.raises(ValueError, match=message):
        ImageData(ImageSplit(images, labels), test, ["a", "b"], validation=0, crop=0, flip=False)
