"""The interface between a criterion and the sweep."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from runner.pruning.granularities.base import Members, Rows


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at besides the members themselves.

    Args:
        own_scores: the dropout variant's: granularity → layer (for features the place's consumer) → scores.
        seed: of the run, for criteria that draw numbers.
    """

    own_scores: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    seed: int = 0


class Criterion(Protocol):
    """Scores members; those of lowest score are removed first."""

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        """Layer → scores, (rows, members of a row), finite, as `members` arranges them."""
