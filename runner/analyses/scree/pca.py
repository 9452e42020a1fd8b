"""Principal component analysis: the best linear code of length k, a baseline for autoencoders.

scikit-learn's PCA needs all images at once in float64, which takes gigabytes for CIFAR-10. This implementation
accumulates the covariance over batches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PIXELS = 5_000  # maximum number of values per image; the covariance has the square of it


@dataclass
class Moments:
    """Running sums over vectors (examples, n), for their mean and their principal components, in float64."""

    examples: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, rows: Tensor) -> None:
        """Add vectors (examples, n)."""
        # On the CPU, because Apple's GPUs do not support float64.
        rows = rows.detach().cpu().double()
        self.examples += len(rows)
        self.total = self.total + rows.sum(0)
        self.squares = self.squares + rows.T @ rows

    def principal(self) -> tuple[Tensor, Tensor]:
        """Return the mean (n,) and the principal components, the columns of an (n, n) matrix, largest first."""
        mean = torch.as_tensor(self.total) / self.examples
        covariance = torch.as_tensor(self.squares) / self.examples - torch.outer(mean, mean)
        # eigh returns eigenvalues in ascending order.
        return mean, torch.linalg.eigh(covariance).eigenvectors.flip(1)


class Pca:
    """The mean and principal components of images, in float64.

    Args:
        batches: the training batches (images, …).
        pixels: the number of values per image, including channels.
    """

    def __init__(self, batches: Iterable[tuple[Tensor, ...]], pixels: int) -> None:
        self.pixels = pixels
        moments = Moments()
        for images, *_ in batches:
            moments.add(images.flatten(1))
        self.mean, self.components = moments.principal()  # components: (pixels, pixels)

    def errors(self, batches: Iterable[tuple[Tensor, ...]], ks: Sequence[int]) -> list[float]:
        """Return the mean squared error per value of reconstructions from the first k components, for each k."""
        left = torch.zeros(self.pixels + 1, dtype=torch.float64)
        examples = 0
        for images, *_ in batches:
            squares = ((images.flatten(1).cpu().double() - self.mean) @ self.components).square().sum(0)
            # The error of k components is the sum of squares of all others, accumulated from the smallest.
            left[:-1] += squares.flip(0).cumsum(0).flip(0)
            examples += len(images)
        return [float(left[min(k, self.pixels)]) / (examples * self.pixels) for k in ks]
