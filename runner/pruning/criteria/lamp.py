"""Layer-adaptive magnitudes: Lee et al. (2021), "Layer-adaptive sparsity for the magnitude-based pruning", eq. 4."""

import torch
from torch import Tensor

from runner.pruning.criteria.base import Evidence
from runner.pruning.granularities.base import Members, Rows


class LAMP:
    """A member's squared magnitude over the sum of those of its layer that are not smaller.

    In a layer the order is that of magnitudes; what changes is the comparison of layers, so it is meant for
    `prune.scope=global`. Every layer's largest member has score 1: none is emptied before all are down to one member.
    """

    comparable = True

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        return {name: _lamp(magnitude) for name, magnitude in members.magnitude().items()}


def _lamp(magnitude: Tensor) -> Tensor:
    squares = magnitude.double().square().flatten()
    order = squares.argsort(stable=True)
    rising = squares[order]
    kept = rising.flip(0).cumsum(0).flip(0)  # of this one and all that are larger
    scores = torch.empty_like(rising)
    scores[order] = torch.where(kept > 0, rising / kept, 0.0)
    return scores.view(magnitude.shape)
