"""The three blocks into which pruning divides a symmetric weight-by-weight matrix."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Blocks:
    """One number per block."""

    kept: float  # pairs of kept weights
    between: float  # pairs of a kept and a pruned weight, from both halves of the matrix
    pruned: float  # pairs of pruned weights

    @classmethod
    def of(cls, matrix: Tensor, pruned: Tensor) -> "Blocks":
        """Sum the entries of each block.

        Args:
            matrix: (m, m), which need not be symmetric.
            pruned: (m,) bool.
        """
        rows = (matrix[~pruned].sum(0), matrix[pruned].sum(0))
        kept, between = float(rows[0][~pruned].sum()), float(rows[0][pruned].sum() + rows[1][~pruned].sum())
        return cls(kept, between, float(rows[1][pruned].sum()))

    @property
    def total(self) -> float:
        return self.kept + self.between + self.pruned

    @property
    def shares(self) -> "Blocks":
        """The blocks as fractions of their total, or NaN if the total is 0."""
        total = self.total or float("nan")
        return Blocks(self.kept / total, self.between / total, self.pruned / total)
