"""The interface between criteria and the sweep."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from runner.interfaces import Task
from runner.pruning.granularities.base import Members, Rows


@dataclass(frozen=True)
class Evidence:
    """Data that a criterion may use in addition to the members.

    Args:
        own_scores: scores of the dropout variant, by granularity and layer (for features, the consumer layer).
        seed: seed of the run, for criteria that draw random numbers.
        model: the trained, unpruned network, to which the members belong.
        task: computes the loss of a batch.
        batches: function that takes a number of examples and returns batches of training data, prepared as in
            training. Calls with the same number return the same batches. They never contain validation or test data.
        context: function that creates the context manager of a forward pass (autocast).
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
    """The interface of a criterion. The members with the lowest scores are removed first.

    A class that changes the remaining weights also has a method `update(members, scope, evidence)`. This method returns
    a function that maps a sparsity to `Pruned` and takes precedence over the ranking by `scores`. The model holds its
    trained weights when `update` is called, but not necessarily later.

    A class whose scores are directly comparable across layers has the attribute `comparable = True`. Other scores are
    divided by √(weights per member) if the scope is global.
    """

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        """Return finite scores for each layer, arranged like `members.magnitude()`: (rows, members per row)."""
