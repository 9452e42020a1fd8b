import numpy as np
import torch
from sklearn.datasets import load_digits

from runner.data.digits import Digits


def test_sizes_are_those_stated() -> None:
    data = Digits()
    assert data.sizes() == {"train": 1293, "validation": 144, "test": 360}
    assert data.model_arguments() == {"channels": 1, "image_size": 8, "classes": 10}
    assert data.class_names == tuple("0123456789")


def test_images_are_scikit_learns_scaled_to_bytes_and_split_evenly() -> None:
    data = Digits(validation=0)
    everything = torch.cat([data.train.images, data.test.images])
    assert everything.min() == 0 and everything.max() == 255
    original = load_digits()
    restored = (everything[:, 0].double() * 16 / 255).round().numpy()
    assert sorted(image.tobytes() for image in restored) == sorted(image.tobytes() for image in original.images)
    share = np.bincount(original.target) * 360 / 1797
    assert np.abs(data.test.labels.bincount().numpy() - share).max() < 1


def test_labels_go_with_the_images() -> None:
    data = Digits(validation=0)
    original = load_digits()
    by_pixels = {image.tobytes(): label for image, label in zip(original.images, original.target, strict=True)}
    restored = (data.test.images[:, 0].double() * 16 / 255).round().numpy()
    assert [by_pixels[image.tobytes()] for image in restored] == data.test.labels.tolist()
