"""Plan what to remove from a pruned network, given its zero filters and columns.

Planning doesn't need the network itself, so a sweep can determine the effect of masks without building a cut network.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from runner.compaction.coupling import FIXED, Coupling, Heads, Layer

ON_SUM = "term of a sum"
PADDING = "outputs a constant that zero padding would cut off at the border"
VARIES = "output isn't constant where it is read"
COUPLED = "coupled to filters that are not zero"
MULTIPLE = "kept to round the number of filters"
HEADS = "kept so that all heads have the same number of features"


@dataclass(frozen=True)
class Zeros:
    """Zero filters and columns of each layer, as boolean tensors (filters,) and (columns,).

    Attributes:
        depthwise: mapping from depthwise convolution to a boolean tensor (channels,) of its zero filters.
    """

    filters: Mapping[str, Tensor]
    columns: Mapping[str, Tensor]
    depthwise: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Plan:
    """The parts of a network that are kept.

    Attributes:
        removed: whether each group is removed, as a boolean tensor (groups,).
        outputs, inputs: mappings from layer to the indices of its filters and columns that are kept.
        channels: mapping from carrier to the indices of its channels that are kept.
        scattered: mapping from layer to the positions of its remaining filters among the kept channels of the sum.
        heads: mapping from attention module to the number of heads that are kept.
        stays: mapping from layer and reason to the number of zero filters kept for that reason.
        zeros: the zeros on which the plan is based.
    """

    removed: Tensor
    zeros: Zeros
    outputs: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    channels: dict[str, Tensor] = field(default_factory=dict)
    scattered: dict[str, Tensor] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    stays: dict[str, dict[str, int]] = field(default_factory=dict)


def masked_zeros(coupling: Coupling, masks: Mapping[str, Tensor]) -> Zeros:
    """Return the zeros that masks would create in a network without zeros.

    Masks are True for removed weights and broadcast over the weights.
    """
    filters = {name: torch.zeros(len(layer.outputs), dtype=torch.bool) for name, layer in coupling.layers.items()}
    columns = {name: torch.zeros(len(layer.inputs), dtype=torch.bool) for name, layer in coupling.layers.items()}
    for name in coupling.layers.keys() & masks.keys():
        layer, mask = coupling.layers[name], masks[name].cpu()
        shape = [len(layer.outputs), len(layer.inputs)]
        wide = mask.movedim(layer.filter_dim, 0).flatten(2).all(-1) if mask.dim() > 2 else mask
        wide = wide.view(len(wide), -1).expand(shape)
        filters[name], columns[name] = wide.all(1), wide.all(0)
    depthwise = {
        name: masks[name].cpu().flatten(1).all(1).expand(len(carrier.channels))
        for name, carrier in coupling.carriers.items()
        if carrier.kind == "depthwise" and name in masks
    }
    return Zeros(filters, columns, depthwise)


def make_plan(
    coupling: Coupling,
    zeros: Zeros,
    constants: bool = True,
    round_to: int = 1,
    scatter: bool = True,
) -> Plan:
    """Decide which parts of a network are removed and which are kept.

    Args:
        coupling: coupling of the network.
        zeros: its zero filters and columns.
        constants: check what zero filters emitted during the trace, and keep those whose constant can't be folded into
            what follows. If False, assume that they emit nothing or can be folded, which is the case with
            removal="clean".
        round_to: make channel counts multiples of this, or leave them unchanged.
        scatter: narrow layers whose output is a term of a sum, and write their output into the sum by index.
    """
    size = int(coupling.group.max()) + 1
    dead = dead_channels(coupling, zeros, constants)
    removed = removable_groups(coupling, zeros, dead)
    why = {VARIES: torch.zeros(size, dtype=torch.bool), PADDING: torch.zeros(size, dtype=torch.bool)}
    if constants:
        for layer in coupling.layers.values():
            groups = coupling.group[layer.inputs]
            live = removed[groups] & dead[layer.inputs] & ~zeros.columns[layer.name]
            nonzero = (layer.low != 0) | (layer.high != 0)
            for reason, bad in (
                (VARIES, nonzero & ~is_constant(layer.low, layer.high)),
                (PADDING, nonzero & layer.padded),
            ):
                why[reason][groups[live & bad]] = True
        removed &= ~(why[VARIES] | why[PADDING])
    in_heads = torch.zeros(size, dtype=torch.bool)
    plan = Plan(removed, zeros)
    for attention in coupling.heads:
        for name in (attention.query, attention.key, attention.value):
            in_heads[coupling.group[coupling.layers[name].outputs]] = True
        plan.heads[attention.name] = _heads(coupling, attention, zeros, removed, constants)
    wanted = removed.clone()
    _round(coupling, removed & ~in_heads, removed, round_to)
    for name, carrier in coupling.carriers.items():
        plan.channels[name] = _indices(~removed[coupling.group[carrier.channels]])
    for name, layer in coupling.layers.items():
        plan.inputs[name] = _indices(~removed[coupling.group[layer.inputs]])
        kept = ~removed[coupling.group[layer.outputs]]
        alive = _alive(layer, kept, zeros.filters[name], constants, round_to) if scatter and layer.place else kept
        plan.outputs[name] = _indices(alive)
        if int(alive.sum()) < int(kept.sum()):
            plan.scattered[name] = _indices(alive[kept])
            if layer.place in plan.channels:
                plan.channels[layer.place] = plan.outputs[name]
        _explain(plan, coupling, layer, alive, why, wanted, in_heads)
    return plan


def dead_channels(coupling: Coupling, zeros: Zeros, constants: bool = True) -> Tensor:
    """Return a mask (channels,) of the channels that zero filters make constant over all inputs.

    Args:
        constants: if True, a dead factor makes a product dead only if it was zero everywhere in the trace. If False,
            any dead factor that isn't a gate also does, because it becomes zero when BatchNorm's shift is set to zero.
    """
    dead = torch.zeros(len(coupling.group), dtype=torch.bool)
    for name, layer in coupling.layers.items():
        dead[layer.outputs] = zeros.filters[name]
    for step in coupling.steps:
        first, second = dead[step.first], dead[step.second]
        dead[step.made] = first & second
        if step.depthwise is not None and step.depthwise in zeros.depthwise:
            dead[step.made] |= zeros.depthwise[step.depthwise]
        elif step.product and step.null is not None:
            null = step.null if constants else step.null | torch.tensor(step.whole)[:, None]
            dead[step.made] |= (first & null[0]) | (second & null[1])
    return dead


def removable_groups(coupling: Coupling, zeros: Zeros, dead: Tensor) -> Tensor:
    """Return a mask (groups,) of the groups that can be removed.

    A group can be removed if every column that reads it is zero or reads a dead channel, or if all filters that produce
    it are zero.
    """
    size = int(coupling.group.max()) + 1
    read, read_in_vain = torch.zeros(size, dtype=torch.int64), torch.zeros(size, dtype=torch.int64)
    for layer in coupling.layers.values():
        groups = coupling.group[layer.inputs]
        read.index_add_(0, groups, torch.ones_like(groups))
        read_in_vain.index_add_(0, groups, (zeros.columns[layer.name] | dead[layer.inputs]).long())
    removable = silent_groups(coupling, zeros) | ((read > 0) & (read == read_in_vain))
    removable[FIXED] = False
    return removable


def silent_groups(coupling: Coupling, zeros: Zeros) -> Tensor:
    """Return a mask (groups,) of the groups whose producing filters are all zero."""
    size = int(coupling.group.max()) + 1
    made, made_zero = torch.zeros(size, dtype=torch.int64), torch.zeros(size, dtype=torch.int64)
    for layer in coupling.layers.values():
        outputs = coupling.group[layer.outputs]
        made.index_add_(0, outputs, torch.ones_like(outputs))
        made_zero.index_add_(0, outputs, zeros.filters[layer.name].long())
    silent = (made > 0) & (made == made_zero)
    silent[FIXED] = False
    return silent


def is_constant(low: Tensor, high: Tensor) -> Tensor:
    """Return whether low and high are equal up to rounding, elementwise."""
    return high - low <= 1e-6 * torch.maximum(low.abs(), high.abs())


def _heads(coupling: Coupling, attention: Heads, zeros: Zeros, removed: Tensor, constants: bool) -> int:
    """Remove whole heads and equally many features from each remaining head. Return the number of remaining heads.

    A feature of queries and keys is removed if it is zero in either. It then adds nothing to the scores, or, if the key
    is constant, adds the same to the scores of all keys, which doesn't change the softmax. If the features of a head
    form one group, as with rotary embeddings, they are only removed together with the head.
    """
    query, key, value = (coupling.layers[name] for name in (attention.query, attention.key, attention.value))
    pairs, values = (coupling.group[layer.outputs].view(attention.count, -1) for layer in (query, value))
    silent = zeros.filters[query.name]
    if constants:
        silent = silent & (query.made_low == 0) & (query.made_high == 0)
    removed[pairs] = (silent | zeros.filters[key.name]).view_as(pairs) & (pairs != FIXED)
    whole = removed[values].all(1) & (pairs != FIXED).all(1)
    if whole.all():
        whole[0] = False
    together = bool((pairs == pairs[:, :1]).all())
    for groups in (pairs, values):
        gone = torch.zeros_like(groups, dtype=torch.bool) if together and groups is pairs else removed[groups]
        fewest = min(int(gone[~whole].sum(1).min()), groups.shape[1] - 1)
        for head in range(attention.count):
            gone[head, gone[head].nonzero().flatten()[fewest:]] = False
        gone[whole] = True
        removed[groups] = gone
    return int((~whole).sum())


def _round(coupling: Coupling, candidates: Tensor, removed: Tensor, round_to: int) -> None:
    """Keep at least one filter of every layer, and a multiple of `round_to`. Features of heads are not affected."""
    for layer in coupling.layers.values():
        groups = coupling.group[layer.outputs]
        gone, free = removed[groups], candidates[groups] & removed[groups]
        kept = int((~gone).sum())
        missing = _multiple(kept, round_to, len(gone)) - kept
        removed[groups[free.nonzero().flatten()[:missing]]] = False


def _multiple(count: int, round_to: int, most: int) -> int:
    return min(most, math.ceil(max(count, 1) / round_to) * round_to)


def _alive(layer: Layer, kept: Tensor, zero: Tensor, constants: bool, round_to: int) -> Tensor:
    """Return a mask of the filters that must be computed. The others add a constant to the sum."""
    idle = kept & zero
    if constants:
        idle &= is_constant(layer.made_low, layer.made_high)
    alive = kept & ~idle
    count = int(alive.sum())
    missing = _multiple(count, round_to, int(kept.sum())) - count
    alive[idle.nonzero().flatten()[:missing]] = True
    return alive


def _explain(
    plan: Plan,
    coupling: Coupling,
    layer: Layer,
    alive: Tensor,
    why: Mapping[str, Tensor],
    wanted: Tensor,
    in_heads: Tensor,
) -> None:
    """Count the zero filters of a layer that are kept for each reason."""
    groups = coupling.group[layer.outputs]
    reasons: dict[str, int] = {}
    for index in _indices(plan.zeros.filters[layer.name] & alive).tolist():
        group = int(groups[index])
        hits = [text for text, hit in why.items() if hit[group]]
        if in_heads[group] and group != FIXED:
            reason = HEADS
        elif wanted[group]:
            reason = MULTIPLE
        else:
            known = coupling.reasons.get(int(layer.outputs[index]))
            reason = hits[0] if hits else known or (ON_SUM if layer.place else COUPLED)
        reasons[reason] = reasons.get(reason, 0) + 1
    if reasons:
        plan.stays[layer.name] = reasons


def _indices(kept: Tensor) -> Tensor:
    return kept.nonzero().flatten()
