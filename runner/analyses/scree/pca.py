"""Principal component analysis: the best linear code of k numbers, which an autoencoder has to beat.

scikit-learn's PCA needs all images at once in float64, gigabytes for CIFAR-10; the covariance is summed over batches.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

PIXELS = 5_000  # values of an image, of which the covariance has the square


class Pca:
    """Mean and principal components of images, in float64.

    Args:
        batches: makes the batches to learn from, (images, …); they are read twice.
        pixels: of an image, times channels.
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
        # eigh gives eigenvalues in rising order.
        self.components = torch.linalg.eigh(scatter / examples).eigenvectors.flip(1)  # (pixels, pixels), a column each

    def errors(self, batches: Iterable[tuple[Tensor, ...]], ks: Sequence[int]) -> list[float]:
        """The mean squared error a pixel of the mean and the first k components, for each k."""
        left = torch.zeros(self.pixels + 1, dtype=torch.float64)
        examples = 0
        for images, *_ in batches:
            squares = ((_flat(images) - self.mean) @ self.components).square().sum(0)
            # Of k components the squares of all others are lost; summed from the smallest on.
            left[:-1] += squares.flip(0).cumsum(0).flip(0)
            examples += len(images)
        return [float(left[min(k, self.pixels)]) / (examples * self.pixels) for k in ks]


def _flat(images: Tensor) -> Tensor:
    # On the processor: Apple's GPUs have no float64.
    return images.flatten(1).cpu().double()
