"""Random scores, as a control."""

import torch

from runner.pruning.criteria.base import Evidence
from runner.pruning.granularities.base import Members, Rows


class Random:
    """Uniform random scores that depend only on the seed and the shapes."""

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        generator = torch.Generator().manual_seed(evidence.seed)
        like = members.magnitude()
        return {name: torch.rand(s.shape, generator=generator).to(s.device) for name, s in like.items()}
