"""Apply masks to models and recalibrate BatchNorm's statistics."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map

from runner.config import choices
from runner.errors import ParameterError
from runner.interfaces import Task
from runner.models.modes import evaluation_mode, restored_modes
from runner.parameters import fraction, one_of
from runner.pruning.criteria.base import Criterion, Evidence, Pruned
from runner.pruning.granularities.base import Granularity, Members, scopes_of
from runner.pruning.ranking import Ranking, rank

LossOf = Callable[[Any, Any], Tensor]


def prune(
    model: nn.Module,
    sparsity: float,
    granularity: str | Granularity = "weight",
    layers: Iterable[str] | None = None,
    scores: Mapping[str, Tensor] | None = None,
    example: Any = None,
    scope: str = "layer",
    criterion: str | Criterion = "magnitude",
    batches: Iterable[tuple[Any, Any]] | None = None,
    loss: LossOf = F.cross_entropy,
) -> dict[str, Tensor]:
    """Prune a model in place by setting weights, filters or features to zero.

    By default, the weights of smallest magnitude in every filter are removed. Other criteria remove the members with
    the lowest scores. "sparsegpt" also changes the remaining weights.

    Args:
        model: any plain module; its prunable layers, or those named in `layers`, are pruned.
        sparsity: fraction of members to remove, in [0, 1].
        granularity: "weight" (paper, eq. 2), "unit" (eq. 1), or "feature": the filters that produce a feature at the
            model's feature places and the weights that read it, ranked by the norm of the filter. Custom granularities
            are also supported.
        scores: mapping from layer name (the consumer's for features) to scores that are used instead of a criterion's,
            e.g. a variant's own, with shape (filters, entries), (filters,) or (features,).
        example: an input of the model, used to find its first and last layer. Pass the input that the variant was
            attached with. See `runner.models.layers.prunable_layers`.
        scope: which members are compared, "layer", "uniform", "erk" or "global"; see `runner.pruning.ranking.Ranking`.
        criterion: the pruning criterion: a name from `run list criterion` or a custom one; not allowed with `scores`.
        batches: batches (inputs, labels) of training data, which "wanda", "taylor", "hessian" and "sparsegpt" need.
            The criterion determines the number of examples used (1,000 or 500); if there are fewer, all are used.
        loss: function that takes the outputs of the model, in evaluation mode, and the labels, and returns the mean
            loss; used by these criteria.

    Returns:
        A mapping from layer name to a boolean mask, True for removed weights, that broadcasts over the weight.
        `runner.dropout.FixedMask` keeps these weights at zero if training continues.

    Raises:
        ValueError: a value is not allowed, a layer is not in the model, or a dropout variant is still attached.
        UserError: the criterion needs training data and `batches` is None, or it does not support the granularity or
            one of the layers.
    """
    fraction("sparsity", sparsity)
    if isinstance(granularity, str):
        one_of("granularity", granularity, choices.names("granularity"))
        granularity = cast(Granularity, choices.builtin("granularity", granularity))
    members = granularity.members(model, layers, example)
    named = criterion != "magnitude"
    if isinstance(criterion, str):
        # "own" means the scores of a variant, which are passed as `scores` here.
        one_of("criterion", criterion, [name for name in choices.names("criterion") if name != "own"])
        criterion = cast(Criterion, choices.builtin("criterion", criterion))
    one_of("scope", scope, scopes_of(granularity))
    if scores is not None:
        if named:
            raise ParameterError("criterion", criterion, "left out beside scores")
        found: Pruned = (members.masks(rank(members, members.rows(scores), scope).pruned(sparsity)), {})
    else:
        source = None if batches is None else _Batches(batches)
        evidence = Evidence(
            model=model,
            task=cast(Task[Any], _OwnLoss(loss)),
            batches=None if source is None else source.first,
        )
        with restored_modes(model):
            found = pruning(members, criterion, scope, evidence)(sparsity)
    masks, values = found
    apply_masks(members.weights, {**members.weights, **values}, masks)
    return dict(masks)


def pruning(members: Members, criterion: Criterion, scope: str, evidence: Evidence) -> Callable[[float], Pruned]:
    """Return a function that maps a sparsity to masks and updated weights; the model must hold its trained weights."""
    update = getattr(criterion, "update", None)
    if update is not None:
        found: Callable[[float], Pruned] = update(members, scope, evidence)
        return found
    order = ranking(members, criterion, scope, evidence)
    return lambda sparsity: (members.masks(order.pruned(sparsity)), {})


def ranking(members: Members, criterion: Criterion, scope: str, evidence: Evidence) -> Ranking:
    """Return the order in which a criterion removes members."""
    return rank(members, criterion.scores(members, evidence), scope, getattr(criterion, "comparable", False))


@dataclass(frozen=True)
class _OwnLoss:
    """Adapter that provides a user's loss as the part of a task that criteria need."""

    loss: LossOf

    def training_loss(self, model: nn.Module, batch: tuple[Any, Any]) -> tuple[Tensor, dict[str, Tensor], int]:
        inputs, labels = batch
        return self.loss(model(inputs), labels), {}, len(labels)


class _Batches:
    """A user's batches, read only as far as a criterion needs them."""

    def __init__(self, batches: Iterable[tuple[Any, Any]]) -> None:
        self._source, self._read = iter(batches), list[tuple[Any, Any]]()

    def first(self, examples: int) -> Iterator[tuple[Any, Any]]:
        """Yield the first batches, with at most the given number of examples in total.

        Every call yields the same batches.

        Raises:
            ValueError: there are no batches, or one isn't a pair of inputs and a tensor of labels.
        """
        for number in itertools.count():
            if examples <= 0:
                return
            if number == len(self._read):
                try:
                    self._read.append(next(self._source))
                except StopIteration:
                    if not self._read:
                        raise ParameterError("batches", "empty", "some batches, (inputs, labels)") from None
                    return
            batch = self._read[number]
            if not isinstance(batch, tuple | list) or len(batch) != 2 or not isinstance(batch[1], Tensor):
                raise ParameterError("batches", f"one of {type(batch).__name__}", "batches (inputs, labels)")
            yield tree_map(partial(_at_most, examples), tuple(batch))
            examples -= len(batch[1])


def _at_most(examples: int, part: Any) -> Any:
    return part[:examples] if isinstance(part, Tensor) else part


@torch.no_grad()
def apply_masks(weights: Mapping[str, Tensor], original: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    """Set weights to their original values, and to zero where the mask is True."""
    for name, weight in weights.items():
        # copy_ and masked_fill keep each weight's memory format; writing through a flattened channels_last weight
        # would write into a copy.
        weight.copy_(original[name].masked_fill(masks[name], 0))


@torch.no_grad()
def restore(weights: Mapping[str, Tensor], original: Mapping[str, Tensor]) -> None:
    """Set weights to their original values."""
    for name, weight in weights.items():
        weight.copy_(original[name])


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the model's BatchNorm layers that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


@contextmanager
def recalibrated(model: nn.Module, batches: Iterable[tuple[Any, ...]]) -> Iterator[None]:
    """Context manager that temporarily recomputes BatchNorm's statistics as cumulative averages over the batches.

    No weights change and no labels are used. Modes are restored before the body runs, statistics and momentum after it.

    Raises:
        ValueError: there is no batch of at least two examples, which a variance needs.
    """
    norms = batch_norms(model)
    states = [{key: value.clone() for key, value in norm.state_dict().items()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    try:
        with evaluation_mode(model), torch.no_grad():
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # PyTorch then uses a cumulative average
                norm.train()
            used = False
            for inputs, *_ in batches:
                if len(inputs) > 1:  # one example has no variance
                    model(inputs)
                    used = True
            if norms and not used:
                raise ParameterError("batches", "none of two examples", "at least one batch of two or more examples")
        yield
    finally:
        for norm, state, momentum in zip(norms, states, momenta, strict=True):
            norm.load_state_dict(state)
            norm.momentum = momentum
