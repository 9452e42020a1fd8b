"""Magnitude pruning (paper, eqs. 1 and 2)."""

from runner.pruning.criteria.base import Evidence
from runner.pruning.granularities.base import Members, Rows


class Magnitude:
    """|w| for weights and the L2 norm for larger members; for features, that of the filters that produce them."""

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        return members.magnitude()
