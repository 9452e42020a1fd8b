"""What pruning changes, as the gradient and the Hessian predict it, and which weights depend on which.

Paper, eq. 3: with d_i = θ_i for every weight that pruning removes and 0 elsewhere,

    ΔE = E(θ − d) − E(θ) = −∇Eᵀd + ½ dᵀH d + O(‖d‖³),

and [θᵀ ⊙ H ⊙ θ]_ij = θ_i H_ij θ_j says how much the network depends on the weights i and j together; the sum of its
entries over removed weights is dᵀH d. Removed are the smallest |θ_i| of every filter (eq. 2), as `run prune` does;
that divides the matrix into three blocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.analyses.coadaptation.blocks import Blocks
from runner.analyses.coadaptation.hutchinson import Squares, block_squares
from runner.analyses.coadaptation.surface import Level, Surface
from runner.pruning.granularities.base import filter_matrix
from runner.pruning.ranking import Ranking


@dataclass(frozen=True)
class Shown:
    """The matrix over m weights, sorted by falling magnitude."""

    matrix: Tensor  # (m, m), θ_i H_ij θ_j
    members: Tensor  # (m,) int64, their places in θ
    theta: Tensor  # (m,)
    gradient: Tensor  # (m,)
    pruned: Tensor  # (m,) bool

    @property
    def absolute(self) -> Blocks:
        """Σ|θ_i H_ij θ_j| of each block."""
        return Blocks.of(self.matrix.abs(), self.pruned)


@dataclass(frozen=True)
class Dependence:
    """What was found of one network."""

    shapes: Mapping[str, torch.Size]  # of the layers' weights, by name
    sparsity: float
    before: Level
    after: Level  # really pruned
    gradient_term: float  # −∇Eᵀd
    curvature_term: float  # ½ dᵀH d
    sums: Blocks  # Σ θ_i H_ij θ_j over all weights, signed, without estimating
    squares: Squares | None  # Σ (θ_i H_ij θ_j)² over all weights
    shown: Shown | None

    @property
    def weights(self) -> int:
        return sum(shape.numel() for shape in self.shapes.values())

    @property
    def predicted(self) -> float:
        """ΔE by eq. 3."""
        return self.gradient_term + self.curvature_term

    @property
    def measured(self) -> float:
        return self.after.loss - self.before.loss


def dependence(surface: Surface, sparsity: float, members: int, probes: int, generator: torch.Generator) -> Dependence:
    """All of it.

    Args:
        sparsity: fraction of every filter that is pruned, in [0, 1].
        members: how many weights the matrix shows, at most all; 0: no matrix.
        probes: random vectors for the squares, at least 2, where the matrix does not show all weights; 0: no squares.
        generator: of the probes, on the processor.
    """
    theta, pruned = surface.theta, pruned_weights(surface, sparsity)
    kept_theta, removed = theta * ~pruned, theta * pruned
    gradient = surface.gradient()
    by_kept, by_removed = surface.products(torch.stack([kept_theta, removed]))
    sums = Blocks(
        float(kept_theta @ by_kept), float(removed @ by_kept + kept_theta @ by_removed), float(removed @ by_removed)
    )
    shown = matrix_of(surface, spread_ranks(theta, members), gradient, pruned) if members else None
    squares = None
    if shown is not None and members == len(theta):
        squares = Squares.exact(shown.matrix, shown.pruned)
    elif probes:
        squares = block_squares(surface, pruned, probes, generator)
    return Dependence(
        shapes=surface.shapes,
        sparsity=sparsity,
        before=surface.level(theta),
        after=surface.level(kept_theta),
        gradient_term=-float(gradient @ removed),
        curvature_term=sums.pruned / 2,
        sums=sums,
        squares=squares,
        shown=shown,
    )


def passes(weights: int, members: int, probes: int) -> int:
    """How many passes over the examples `dependence` makes, each for one direction."""
    return 5 + members + (0 if members == weights else 2 * probes)


def pruned_weights(surface: Surface, sparsity: float) -> Tensor:
    """(n,) bool: the smallest weights of every filter, by the rule that pruning has."""
    magnitudes = {name: filter_matrix(weight).abs() for name, weight in surface.matrices(surface.theta).items()}
    removed = Ranking(magnitudes).pruned(sparsity)
    return torch.cat([mask.flatten() for mask in removed.values()])


def spread_ranks(theta: Tensor, members: int) -> Tensor:
    """(m,) int64: so many weights in the order of falling magnitude, ties by place, at evenly spaced ranks."""
    order = theta.abs().argsort(descending=True, stable=True)
    ranks = ((torch.arange(members, device=theta.device) + 0.5) * (len(theta) / members)).long()
    return order[ranks]


def matrix_of(surface: Surface, members: Tensor, gradient: Tensor, pruned: Tensor) -> Shown:
    """The matrix over the named weights."""
    theta = surface.theta[members]
    matrix = theta[:, None] * surface.hessian(members) * theta
    return Shown(matrix, members, theta, gradient[members], pruned[members])
