"""Pruning by the geometric median: He et al. (2019), "Filter pruning via geometric median for deep convolutional neural
networks acceleration", eq. 4."""

import torch

from runner.errors import UserError
from runner.pruning.criteria.base import Evidence
from runner.pruning.granularities.base import Members, Rows


class FPGM:
    """The sum of a filter's Euclidean distances to the other filters of its layer.

    Members closest to the layer's geometric median are removed first. They must have several weights, as
    filters, features, heads and blocks do.
    """

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        parts = members.gather(members.values())
        if all(part.shape[-1] == 1 for part in parts.values()):
            raise UserError("prune.criterion=fpgm: compares whole filters; expected prune.granularity=unit or feature")
        return {
            name: torch.cdist(part, part, compute_mode="donot_use_mm_for_euclid_dist").sum(-1)
            for name, part in parts.items()
        }
