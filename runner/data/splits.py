"""The splits and the training order of in-memory and streamed data sets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from runner.seeding import derive_seed

SPLITS = ("train", "validation", "test")


class Splits:
    """Base class of data sets with the splits `train`, `validation` and `test`. The last two may be empty."""

    train: Any
    validation: Any
    test: Any
    examples = "examples"  # their name in error messages

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the non-empty splits."""
        return tuple(name for name in SPLITS if len(getattr(self, name)))

    def sizes(self) -> dict[str, int]:
        """Return the number of examples in each non-empty split."""
        return {name: len(getattr(self, name)) for name in self.splits}

    def examples_of(self, split: str) -> Any:
        """Return the examples of a split.

        Raises:
            ValueError: the split is empty or unknown.
        """
        if split not in self.splits:
            raise ValueError(f"split {split!r} holds no {self.examples}; those that do: {', '.join(self.splits)}")
        return getattr(self, split)


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """Return a permutation (count,) int64 of the training examples, as a pure function of seed and epoch."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed(seed, "order", epoch)))
