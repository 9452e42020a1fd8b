"""Base classes of in-memory data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor

from runner.data.splits import SPLITS, Splits


class Labelled:
    """Base class of dataclasses whose tensors have one row per example, including `labels` (N,) int64."""

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> Self:
        return self._each(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Self:
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(**{f.name: change(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]

    def chunks(self, size: int) -> Iterator[Self]:
        """Yield chunks of `size` examples in order; the last one may be smaller."""
        for start in range(0, len(self), size):
            yield self[start : start + size]


S = TypeVar("S", bound=Labelled)


class InMemory(Splits, Generic[S]):
    """Base class of data sets that keep three splits on one device.

    Inputs are normalised by `mean` and `std`.
    """

    train: S
    validation: S
    test: S
    mean: Tensor
    std: Tensor

    @property
    def device(self) -> torch.device:
        return self.train.labels.device

    def to(self, device: torch.device | str) -> Self:
        """Move all splits to a device, in place."""
        for name in SPLITS:
            setattr(self, name, getattr(self, name).to(device))
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self

    def first(self, split: str, limit: int | None) -> S:
        """Return the first `limit` examples of a split (all if None). Raises a ValueError if the split is empty."""
        part: S = self.examples_of(split)
        return part if limit is None else part[:limit]
