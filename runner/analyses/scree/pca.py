"""Principal component analysis: the best linear code of length k, a baseline for autoencoders.

scikit-learn's PCA needs all images at once in float64, which takes gigabytes for CIFAR-10. This implementation
accumulates the covariance over batches.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

PIXELS = 5_000  # maximum number of values per image; the covariance has the square of it


class Pca:
    """The mean and principal components of images, in float64.

    Args:
        batches: returns the training batches (images, …). It is called twice.
        pixels: the number of values per image, including channels.
    """

    def __init__(self, batches: Callable[[], Iterable[tuple[Tensor, ...]]], pixels: int) -> None:
        self.pixels = pixels
        total, examples = torch.zeros(pixels, dtype=torch.float64), 0
        for images, *_ in batches():
            total += _flat(images).sum(0)
            examples += len(images)
        self.mean = total / examples
        scatter = torch.zeros(pixels, pixels, dtype=torch.float64)
        for images, *_ in batches():
            centred = _flat(images) - self.mean
            scatter += centred.T @ centred
        # eigh returns eigenvalues in ascending order.
        self.components = torch.linalg.eigh(scatter / examples).eigenvectors.flip(1)  # (pixels, pixels), columns

    def errors(self, batches: Iterable[tuple[Tensor, ...]], ks: Sequence[int]) -> list[float]:
        """Return the mean squared error per value of reconstructions from the first k components, for each k."""
        left = torch.zeros(self.pixels + 1, dtype=torch.float64)
        examples = 0
        for images, *_ in batches:
            squares = ((_flat(images) - self.mean) @ self.components).square().sum(0)
            # The error of k components is the sum of squares of all others, accumulated from the smallest.
            left[:-1] += squares.flip(0).cumsum(0).flip(0)
            examples += len(images)
        return [float(left[min(k, self.pixels)]) / (examples * self.pixels) for k in ks]


def _flat(images: Tensor) -> Tensor:
    # On the CPU, because Apple's GPUs do not support float64.
    return images.flatten(1).cpu().double()
