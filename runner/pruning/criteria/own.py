"""The dropout variant's own ranking, e.g. by gates, switches, variances or the order of features."""

from runner.pruning.criteria.base import Evidence
from runner.pruning.granularities.base import Members, Rows


class Own:
    """The variant's own scores for the granularity, or magnitude if it has none."""

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        own = evidence.own_scores.get(members.granularity)
        return members.magnitude() if own is None else members.rows(own)
