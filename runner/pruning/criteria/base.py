"""The interface between a criterion and the sweep."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from runner.interfaces import Task
from runner.pruning.granularities.base import Members, Rows


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at besides the members themselves.

    Args:
        own_scores: the dropout variant's: granularity → layer (for features the place's consumer) → scores.
        seed: of the run, for criteria that draw numbers.
        model: the trained network with nothing pruned, in evaluation mode; the members are its.
        task: gives the loss of a batch.
        batches: number of examples → batches of training data as training sees it, the same at every call. Never
            validation or test data.
        context: makes the context of a forward pass (autocast).
    """

    own_scores: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    seed: int = 0
    model: nn.Module | None = None
    task: Task[Any] | None = None
    batches: Callable[[int], Iterable[Any]] | None = None
    context: Callable[[], AbstractContextManager[object]] = nullcontext


class Criterion(Protocol):
    """Scores members; those of lowest score are removed first.

    A class whose scores of different layers can be compared as they are has the attribute `comparable = True`; those of
    others are divided by √(entries of a member) where `scope=global` compares filters.
    """

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        """Layer → scores, (rows, members of a row), finite, as `members` arranges them."""
