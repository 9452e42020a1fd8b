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


# Masks, True for what is removed, and values of the weights that stay: layer → of its weight's shape (masks may
# broadcast). Layers without values keep their trained ones.
Pruned = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]


class Criterion(Protocol):
    """Scores members; those of lowest score are removed first.

    A class may also have `update(members, scope, evidence)`, if it has new values for the weights that stay. It returns
    a function from the sparsity to `Pruned`, which goes before the ranking by `scores`; the trained weights are in the
    model when `update` is called, not necessarily later.

    A class whose scores of different layers can be compared as they are has the attribute `comparable = True`; those of
    others are divided by √(entries of a member) where `scope=global` compares filters.
    """

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        """Layer → scores, (rows, members of a row), finite, as `members` arranges them."""
