"""Small smooth networks, whose exact derivatives can be computed quickly."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from runner.analyses.coadaptation.surface import Surface

Batch = tuple[Tensor, Tensor]


class Dense(nn.Module):
    """15 inputs, 6 and 4 hidden units, 3 classes."""

    prunable = ("first", "second")

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.logits = nn.Linear(15, 6), nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Convolutional(nn.Module):
    """A stem and a convolution with BatchNorm, whose statistics are not the default ones."""

    prunable = ("conv",)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.norm = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.logits = nn.Linear(4, 3)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(torch.tanh(self.norm(self.conv(torch.tanh(self.stem(x))))).mean((2, 3)))


def _batches(*shape: int) -> list[Batch]:
    """Two batches of unequal size."""
    return [(torch.randn(n, *shape), torch.randint(0, 3, (n,))) for n in (12, 5)]


@pytest.fixture
def dense() -> tuple[nn.Module, list[Batch]]:
    torch.manual_seed(0)
    return Dense(), _batches(15)


@pytest.fixture
def convolutional() -> tuple[nn.Module, list[Batch]]:
    torch.manual_seed(0)
    model = Convolutional().to(memory_format=torch.channels_last)
    batches = _batches(2, 7, 7)
    return model, [(x.contiguous(memory_format=torch.channels_last), y) for x, y in batches]


@pytest.fixture
def surface_of() -> Callable[..., Surface]:
    def make(network: tuple[nn.Module, list[Batch]], layers=None, dtype=torch.float64, **more) -> Surface:
        model, batches = network
        return Surface(model, layers, lambda: batches, dtype, **more)

    return make
