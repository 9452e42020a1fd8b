"""Masks into models, and BatchNorm's statistics made to fit again."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from runner.config import choices
from runner.parameters import fraction, one_of
from runner.pruning.granularities.base import Granularity
from runner.pruning.ranking import rank


def prune(
    model: nn.Module,
    sparsity: float,
    granularity: str | Granularity = "weight",
    layers: Iterable[str] | None = None,
    scores: Mapping[str, Tensor] | None = None,
    example: Any = None,
    scope: str = "layer",
) -> dict[str, Tensor]:
    """Set the smallest weights of every filter, or whole filters or features of small norm, to zero, in place.

    Args:
        model: any plain module; its prunable layers, or those that `layers` names, are pruned.
        sparsity: fraction in [0, 1].
        granularity: "weight" (paper, eq. 2), "unit" (eq. 1), or "feature": at the model's feature places what makes a
            feature and what reads it, ranked by the norm of the filter that makes it. Or a granularity of your own.
        scores: layer name (for features the consumer's) → what to rank by instead, as a variant's own: (filters,
            entries), (filters,) or (features,).
        example: an input of the model, by which its first and its last layer are found; give the one that the variant
            was attached with. See `runner.models.layers.prunable_layers`.
        scope: what is compared with what, "layer", "uniform", "erk" or "global", see `runner.pruning.ranking.Ranking`.

    Returns:
        layer name → boolean mask of what was removed, broadcastable over the weight. `runner.dropout.FixedMask` keeps
        it at zero when training goes on.

    Raises:
        ValueError: a value is not allowed, a layer is not in the model, or a dropout variant is still attached.
    """
    fraction("sparsity", sparsity)
    if isinstance(granularity, str):
        one_of("granularity", granularity, choices.names("granularity"))
        granularity = cast(Granularity, choices.builtin("granularity", granularity))
    members = granularity.members(model, layers, example)
    ranked = members.magnitude() if scores is None else members.rows(scores)
    masks = members.masks(rank(members, ranked, scope).pruned(sparsity))
    apply_masks(members.weights, members.weights, masks)
    return masks


@torch.no_grad()
def apply_masks(weights: Mapping[str, Tensor], original: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    """weights := original, with zeros where the mask is True."""
    for name, weight in weights.items():
        # copy_ and masked_fill keep each weight's memory format; writing through a flattened channels_last weight
        # would write into a copy.
        weight.copy_(original[name].masked_fill(masks[name], 0))


@torch.no_grad()
def restore(weights: Mapping[str, Tensor], original: Mapping[str, Tensor]) -> None:
    """weights := original."""
    for name, weight in weights.items():
        weight.copy_(original[name])


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The model's BatchNorm layers that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


@contextmanager
def recalibrated(model: nn.Module, batches: Iterable[tuple[Any, ...]]) -> Iterator[None]:
    """BatchNorm statistics measured anew on the batches' inputs, as a cumulative average, while the context lasts.

    No weights change and no labels are used. Afterwards statistics, momentum and modes are as they were.
    """
    norms = batch_norms(model)
    states = [{key: value.clone() for key, value in norm.state_dict().items()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's sign for a cumulative average
        norm.train()
    try:
        with torch.no_grad():
            for inputs, *_ in batches:
                if len(inputs) > 1:  # one example has no variance
                    model(inputs)
        for module, mode in modes:
            module.training = mode
        yield
    finally:
        for norm, state, momentum in zip(norms, states, momenta, strict=True):
            norm.load_state_dict(state)
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
