"""PCA compared with NumPy's SVD, and with linear codes of the same width, none of which is better."""

import numpy as np
import pytest
import torch

from runner.analyses.scree.pca import Pca


def _images(n, seed, shape=(2, 3, 4)):
    """Return correlated images with a mean far from 0."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(24, 24, generator=torch.Generator().manual_seed(9))
    return (torch.randn(n, 24, generator=generator) @ mix + 50).view(n, *shape)


def _batches(images, size=16):
    return ((part, torch.zeros(len(part))) for part in images.split(size))


@pytest.fixture
def pca():
    return Pca(_batches(_images(100, 0)), 24)


@pytest.mark.parametrize("seed", [0, 1], ids=["the images learned from", "others"])
def test_errors_are_those_of_a_truncated_svd(pca, seed):
    learned, images = (_images(n, s).flatten(1).double().numpy() for n, s in ((100, 0), (37, seed)))
    mean = learned.mean(0)
    _, _, directions = np.linalg.svd(learned - mean, full_matrices=False)
    ks = [1, 2, 5, 23, 24]
    expected = []
    for k in ks:
        kept = directions[:k]
        expected.append(np.square((images - mean) - (images - mean) @ kept.T @ kept).mean())
    found = pca.errors(_batches(_images(37, seed)), ks)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_on_the_images_learned_from_they_are_the_singular_values_that_are_left(pca):
    images = _images(100, 0).flatten(1).double().numpy()
    values = np.linalg.svd(images - images.mean(0), compute_uv=False)
    errors = pca.errors(_batches(_images(100, 0)), range(1, 24))
    np.testing.assert_allclose(errors, [np.square(values[k:]).sum() / images.size for k in range(1, 24)])


def test_batches_make_no_difference(pca):
    other = Pca(_batches(_images(100, 0), 100), 24)
    ks = [1, 7, 20]
    errors = pca.errors(_batches(_images(40, 1), 9), ks)
    assert errors == pytest.approx(other.errors(_batches(_images(40, 1), 40), ks), rel=1e-9)
    assert errors == sorted(errors, reverse=True)


def test_more_components_than_pixels_lose_nothing(pca):
    assert pca.errors(_batches(_images(5, 1)), [24, 25, 1000]) == [0, 0, 0]


def test_no_linear_code_of_that_width_is_better(pca):
    images = _images(100, 0).flatten(1).double()
    torch.manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(24, 3, dtype=torch.float64))
    centred = images - images.mean(0)
    other = (centred - centred @ basis @ basis.T).square().mean()
    best = pca.components[:, :3]
    assert pca.errors(_batches(_images(100, 0)), [3])[0] < other
    assert torch.allclose(best.T @ best, torch.eye(3, dtype=torch.float64), atol=1e-9)
