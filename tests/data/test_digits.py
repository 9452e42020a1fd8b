import importlib
import importlib.util

import numpy as np
import pytest
import torch

from runner.data import digits
from runner.data.digits import Digits


@pytest.fixture(scope="module")
def original():
    return importlib.import_module("sklearn.datasets").load_digits()  # not at collection, because it imports SciPy


def test_sizes_are_those_stated() -> None:
    data = Digits()
    assert data.sizes() == {"train": 1293, "validation": 144, "test": 360}
    assert data.model_arguments() == {"channels": 1, "image_size": 8, "classes": 10}
    assert data.class_names == tuple("0123456789")


def test_images_are_scikit_learns_scaled_to_bytes_and_split_evenly(original) -> None:
    data = Digits(validation=0)
    everything = torch.cat([data.train.images, data.test.images])
    assert everything.min() == 0 and everything.max() == 255
    restored = (everything[:, 0].double() * 16 / 255).round().numpy()
    assert sorted(image.tobytes() for image in restored) == sorted(image.tobytes() for image in original.images)
    share = np.bincount(original.target) * 360 / 1797
    assert np.abs(data.test.labels.bincount().numpy() - share).max() < 1


def test_labels_go_with_the_images(original) -> None:
    data = Digits(validation=0)
    by_pixels = {image.tobytes(): label for image, label in zip(original.images, original.target, strict=True)}
    restored = (data.test.images[:, 0].double() * 16 / 255).round().numpy()
    assert [by_pixels[image.tobytes()] for image in restored] == data.test.labels.tolist()


def test_another_layout_of_the_package_gives_the_same_images(monkeypatch) -> None:
    read = digits._digits.__wrapped__
    expected = read()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert all(map(np.array_equal, read(), expected))
