"""Magnitude pruning (paper, eqs. 1 and 2)."""

from runner.pruning.criteria.base import Evidence
from runner.pruning.granularities.base import Members, Rows


class Magnitude:
    """|w| for weights, the L2 norm for filters, the L2 norm of the filter that makes it for a feature."""

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        return members.magnitude()
