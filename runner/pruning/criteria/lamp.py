"""Layer-adaptive magnitudes: Lee et al. (2021), "Layer-adaptive sparsity for the magnitude-based pruning", eq. 4."""

import torch
from torch import Tensor

from runner.pruning.criteria.base import Evidence
from runner.pruning.granularities.base import Members, Rows


class LAMP:
    """A member's squared magnitude, divided by the sum over this and all larger members of its layer.

    Within a layer, members are ranked by magnitude. Only the comparison between layers differs, so this criterion is
    meant for `prune.scope=global`. The largest member of every layer has score 1, so no layer is emptied before all are
    down to one member.
    """

    comparable = True

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        return {name: _lamp(magnitude) for name, magnitude in members.magnitude().items()}


def _lamp(magnitude: Tensor) -> Tensor:
    squares = magnitude.double().square().flatten()
    order = squares.argsort(stable=True)
    rising = squares[order]
    kept = rising.flip(0).cumsum(0).flip(0)  # of this member and all larger ones
    scores = torch.empty_like(rising)
    scores[order] = torch.where(kept > 0, rising / kept, 0.0)
    return scores.view(magnitude.shape)
