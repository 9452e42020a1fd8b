"""What the dropout variant itself ranks by: gates, switches, variances, the order of features."""

from runner.pruning.criteria.base import Evidence
from runner.pruning.granularities.base import Members, Rows


class Own:
    """The variant's own scores of that granularity; magnitude where it has none."""

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        own = evidence.own_scores.get(members.granularity)
        return members.magnitude() if own is None else members.rows(own)
