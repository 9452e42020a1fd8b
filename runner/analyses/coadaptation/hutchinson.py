"""Estimate sums of squares over blocks of the dependence matrix without the matrix itself, for large networks.

Let M = diag(θ) H diag(θ), let z be a vector of random signs, and let z_b be z restricted to block b and 0 elsewhere.
The entries of M z_b in block a have the expected squared norm E‖(M z_b)_a‖² = Σ_{i∈a, j∈b} M_ij², because E z_j z_k
is 1 for j = k and 0 otherwise (Hutchinson, 1990). One product with H per block and probe gives an unbiased estimate,
and the standard deviation over probes gives its error.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from runner.analyses.coadaptation.blocks import Blocks
from runner.analyses.coadaptation.surface import Surface


@dataclass(frozen=True)
class Squares:
    """Σ (θ_i H_ij θ_j)² for each block, with standard errors if the sums are estimates."""

    values: Blocks
    errors: Blocks | None = None
    share_errors: Blocks | None = None
    probes: int = 0

    @classmethod
    def exact(cls, matrix: Tensor, pruned: Tensor) -> "Squares":
        return cls(Blocks.of(matrix.square(), pruned))

    @classmethod
    def estimated(cls, samples: Tensor) -> "Squares":
        """Estimate the sums from samples (probes, 3) of at least two probes."""
        probes, means = len(samples), samples.mean(0)
        errors = samples.std(0) / probes**0.5
        # A share is a ratio of means; to first order its error is that of (numerator − share · denominator).
        totals = samples.sum(1, keepdim=True)
        shares = means / means.sum()
        share_errors = (samples - shares * totals).std(0) / (probes**0.5 * means.sum())
        return cls(Blocks(*means.tolist()), Blocks(*errors.tolist()), Blocks(*share_errors.tolist()), probes)


def block_squares(surface: Surface, pruned: Tensor, probes: int, generator: torch.Generator) -> Squares:
    """Estimate the sum of squares of each block with the given number of probes, at least 2."""
    size = max(1, surface.at_once // 2)
    samples = [_samples(surface, pruned, min(size, probes - start), generator) for start in range(0, probes, size)]
    return Squares.estimated(torch.cat(samples))


def _samples(surface: Surface, pruned: Tensor, probes: int, generator: torch.Generator) -> Tensor:
    """Return samples (probes, 3) float64 for the blocks kept, between and pruned."""
    theta = surface.theta
    # Drawn on the CPU, so that probes do not depend on the device.
    signs = torch.randint(0, 2, (probes, len(theta)), generator=generator, dtype=torch.int8).to(theta.device) * 2 - 1
    weighted = signs * theta
    rows = (theta * surface.products(torch.cat([weighted * ~pruned, weighted * pruned]))).square()
    from_kept, from_pruned = rows[:probes], rows[probes:]
    kept = from_kept[:, ~pruned].sum(1)
    between = from_kept[:, pruned].sum(1) + from_pruned[:, ~pruned].sum(1)
    return torch.stack([kept, between, from_pruned[:, pruned].sum(1)], dim=1).cpu().double()
