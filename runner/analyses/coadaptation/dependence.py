"""The change in loss due to pruning, as predicted by the gradient and the Hessian, and the dependence between weights.

Paper, eq. 3: with d_i = θ_i for every weight that pruning removes and 0 elsewhere,

    ΔE = E(θ − d) − E(θ) = −∇Eᵀd + ½ dᵀH d + O(‖d‖³),

and [θᵀ ⊙ H ⊙ θ]_ij = θ_i H_ij θ_j measures how much the network depends on weights i and j jointly. Its entries for
removed weights sum to dᵀH d. As in `run prune`, the smallest |θ_i| of every filter are removed (eq. 2), which divides
the matrix into three blocks.
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
    """The dependence matrix of m weights, which are sorted by descending magnitude."""

    matrix: Tensor  # (m, m), θ_i H_ij θ_j
    members: Tensor  # (m,) int64, indices of the weights in θ
    theta: Tensor  # (m,)
    gradient: Tensor  # (m,)
    pruned: Tensor  # (m,) bool

    @property
    def absolute(self) -> Blocks:
        """Σ|θ_i H_ij θ_j| for each block."""
        return Blocks.of(self.matrix.abs(), self.pruned)


@dataclass(frozen=True)
class Dependence:
    """The measurements of one network."""

    shapes: Mapping[str, torch.Size]  # layer → shape of its weight
    sparsity: float
    before: Level
    after: Level  # measured with pruned weights
    gradient_term: float  # −∇Eᵀd
    curvature_term: float  # ½ dᵀH d
    sums: Blocks  # Σ θ_i H_ij θ_j over all weights, signed and exact
    squares: Squares | None  # Σ (θ_i H_ij θ_j)² over all weights
    shown: Shown | None

    @property
    def weights(self) -> int:
        return sum(shape.numel() for shape in self.shapes.values())

    @property
    def predicted(self) -> float:
        """The ΔE predicted by eq. 3."""
        return self.gradient_term + self.curvature_term

    @property
    def measured(self) -> float:
        return self.after.loss - self.before.loss


def dependence(surface: Surface, sparsity: float, members: int, probes: int, generator: torch.Generator) -> Dependence:
    """Measure the dependence between the weights of a network.

    Args:
        sparsity: the fraction of every filter that is pruned, in [0, 1].
        members: the number of weights in the matrix, at most the number of all weights; 0 means no matrix.
        probes: the number of random vectors used to estimate the squares if the matrix does not contain all weights, at
            least 2; 0 means no squares.
        generator: the generator of the probes, on the CPU.
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
    """Return the number of passes over the examples in `dependence`, each of which handles one direction."""
    return 5 + members + (0 if members == weights else 2 * probes)


def pruned_weights(surface: Surface, sparsity: float) -> Tensor:
    """Return a mask (n,) of the smallest weights of every filter, selected in the same way as in pruning."""
    magnitudes = {name: filter_matrix(weight).abs() for name, weight in surface.matrices(surface.theta).items()}
    removed = Ranking(magnitudes).pruned(sparsity)
    return torch.cat([mask.flatten() for mask in removed.values()])


def spread_ranks(theta: Tensor, members: int) -> Tensor:
    """Return indices (m,) of `members` weights at evenly spaced ranks by descending magnitude, ties broken by index."""
    order = theta.abs().argsort(descending=True, stable=True)
    ranks = ((torch.arange(members, device=theta.device) + 0.5) * (len(theta) / members)).long()
    return order[ranks]


def matrix_of(surface: Surface, members: Tensor, gradient: Tensor, pruned: Tensor) -> Shown:
    """Return the dependence matrix of the given weights."""
    theta = surface.theta[members]
    matrix = theta[:, None] * surface.hessian(members) * theta
    return Shown(matrix, members, theta, gradient[members], pruned[members])
