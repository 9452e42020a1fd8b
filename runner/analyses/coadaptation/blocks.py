"""The three parts into which pruning divides a symmetric matrix over weights."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Blocks:
    """A number of each part."""

    kept: float  # kept weights with kept ones
    between: float  # kept with pruned ones, both halves of the matrix
    pruned: float  # pruned with pruned ones

    @classmethod
    def of(cls, matrix: Tensor, pruned: Tensor) -> "Blocks":
        """Sums over the parts of (m, m), which need not be symmetric; pruned (m,) bool."""
        rows = (matrix[~pruned].sum(0), matrix[pruned].sum(0))
        kept, between = float(rows[0][~pruned].sum()), float(rows[0][pruned].sum() + rows[1][~pruned].sum())
        return cls(kept, between, float(rows[1][pruned].sum()))

    @property
    def total(self) -> float:
        return self.kept + self.between + self.pruned

    @property
    def shares(self) -> "Blocks":
        """Fractions of the total; NaN where that is 0."""
        total = self.total or float("nan")
        return Blocks(self.kept / total, self.between / total, self.pruned / total)
