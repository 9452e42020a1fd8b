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
    """What a criterion may use besides the members themselves.

    Args:
        own_scores: the dropout variant's scores: granularity → layer (for features, the place's consumer) → scores.
        seed: of the run, for criteria that draw random numbers.
        model: the trained, unpruned network, in evaluation mode; the members belong to it.
        task: computes the loss of a batch.
        batches: number of examples → batches of training data as they are in training, the same in every call. Never
            validation or test data.
        context: creates the context of a forward pass (autocast).
    """

    own_scores: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    seed: int = 0
    model: nn.Module | None = None
    task: Task[Any] | None = None
    batches: Callable[[int], Iterable[Any]] | None = None
    context: Callable[[], AbstractContextManager[object]] = nullcontext


# Masks, True for what is removed, and values of the remaining weights: layer → tensor of its weight's shape (masks may
# broadcast). Layers without values keep their trained ones.
Pruned = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]


class Criterion(Protocol):
    """Scores members; those with the lowest scores are removed first.

    A class may also have `update(members, scope, evidence)` if it has new values for the remaining weights. It returns
    a function from the sparsity to `Pruned`, which takes precedence over the ranking by `scores`. The trained weights
    are in the model when `update` is called, but not necessarily later.

    A class whose scores can be compared across layers as they are has the attribute `comparable = True`. Other scores
    are divided by √(entries of a member) where `scope=global` compares filters.
    """

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        """Return finite scores for each layer, (rows, members of a row), arranged as in `members`."""
