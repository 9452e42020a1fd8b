"""Inspect the layers of a network and the effect of pruning on them, without training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from runner.compaction.costs import count_flops, flops_by_module, planned_costs
from runner.compaction.coupling import FIXED, Coupling
from runner.compaction.planning import Plan, make_plan, masked_zeros
from runner.compaction.tracing import find_coupling
from runner.models.computation import computation_order
from runner.models.layers import filters_first, matrix_layers, parameter_of, prunable_layers
from runner.pruning.granularities.base import Granularity
from runner.pruning.ranking import Ranking

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class InspectedLayer:
    """A layer with a weight matrix, before and after pruning.

    Args:
        kind: name of the module's class.
        shape: shape of the weight, with filters in dim 0.
        parameters: number of parameters in weight and bias.
        flops: operations for one example, two per multiply-add; None if unknown.
        prunable: whether dropout and pruning apply to it; if not, `why_not` gives the reason.
        group: number of the group of layers whose filters can only be removed together, or None.
        whole: number of filters, and number of inputs of each filter.
        left: the numbers in `whole` that would remain at the given sparsity.
        parameters_left, flops_left: the numbers of `parameters` and `flops` that would remain.
        stays: why filters can never be removed, or else why filters that are zero at the given sparsity would stay;
            empty if neither applies.
    """

    layer: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    flops: int | None
    prunable: bool
    why_not: str
    group: int | None
    whole: tuple[int, int]
    left: tuple[int, int]
    parameters_left: int
    flops_left: int | None
    stays: str


@dataclass
class Inspection:
    """The layers of a network, and its costs before and after a cut.

    Attributes:
        layers: the layers, in order of computation.
        groups: mapping from group number to the names of layers that can only be cut together.
        parameters, flops: the costs of the whole network, with flops per example.
        parameters_left, flops_left: the costs after the cut.
        notes: remarks on layers that share a weight.
    """

    layers: list[InspectedLayer]
    groups: dict[int, list[str]]
    parameters: int
    flops: int
    parameters_left: int
    flops_left: int
    notes: list[str] = field(default_factory=list)


def inspect_network(
    model: nn.Module,
    example: Sequence[Tensor],
    sparsity: float,
    granularity: Granularity,
    scores: Mapping[str, Tensor] | None = None,
) -> Inspection:
    """Trace the network, compute pruning masks, and plan the cut. The network is not modified.

    Args:
        model: a plain model.
        example: arguments of the model's `forward`, for at least two examples.
        sparsity, granularity: fraction and kind of the members to prune. Each layer is pruned separately, by magnitude
            or by `scores`.

    Raises:
        ValueError: the model has no members of that granularity.
    """
    matrices = matrix_layers(model)
    parameters = {name: parameter_of(layer) for name, layer in matrices.items()}
    uses = computation_order(model, parameters, tuple(example))
    prunable = prunable_layers(model, example=tuple(example))
    members = granularity.members(model, None, tuple(example))
    ranked = members.magnitude() if scores is None else members.rows(scores)
    masks = members.masks(Ranking(ranked).pruned(sparsity))
    coupling = find_coupling(model, example)
    plan = make_plan(coupling, masked_zeros(coupling, masks), constants=False)
    measured = flops_by_module(model, example)
    used = {name for names in uses for name in names}
    order = list(dict.fromkeys(name for names in uses for name in names))
    order += [name for name in matrices if name not in order]
    groups = _groups(coupling)
    number = {name: number for number, names in groups.items() for name in names}
    why_not = _reasons(model, matrices, uses, prunable)
    layers = []
    for name in order:
        weight = filters_first(matrices[name], getattr(*parameters[name]))
        own = int(sum(p.numel() for p in (weight, getattr(matrices[name], "bias", None)) if p is not None))
        whole = (weight.shape[0], weight.shape[1])
        flops, left = measured.get(name), whole
        left_parameters, left_flops = own, flops
        if name in coupling.layers:
            layer = coupling.layers[name]
            whole, left = (len(layer.outputs), len(layer.inputs)), (len(plan.outputs[name]), len(plan.inputs[name]))
            flops = 2 * whole[0] * whole[1] * layer.taps * layer.applications
        elif name in coupling.carriers:
            left = (len(plan.channels[name]), 1)
        share = left[0] * left[1] / (whole[0] * whole[1])
        if left != whole:
            bias = own - weight.numel()
            left_parameters = round(weight.numel() * share) + (bias * left[0] // whole[0])
        left_flops = None if flops is None else round(flops * share)
        layers.append(
            InspectedLayer(
                name,
                type(matrices[name]).__name__,
                tuple(weight.shape),
                own,
                flops,
                name in prunable,
                "" if name in prunable else why_not.get(name, "left out by the model's list `prunable`"),
                number.get(name),
                whole,
                left,
                left_parameters,
                left_flops,
                _stays(name, coupling, plan) if name in used else "not used in forward",
            )
        )
    costs = planned_costs(model, coupling, plan)
    total = count_flops(model, example) // len(example[0])
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    inspection = Inspection(layers, groups, count, total, costs.parameters, min(costs.flops, total))
    inspection.notes = _shared(matrices, parameters)
    return inspection


def _groups(coupling: Coupling) -> dict[int, list[str]]:
    """Group layers whose filters meet in a sum, a product, or a subsequent depthwise convolution."""
    made = {name: layer.outputs for name, layer in coupling.layers.items()}
    made |= {name: one.channels for name, one in coupling.carriers.items() if one.kind == "depthwise"}
    by_group: dict[int, set[str]] = {}
    for name, channels in made.items():
        for group in set(coupling.group[channels].tolist()) - {FIXED}:
            by_group.setdefault(group, set()).add(name)
    together: list[set[str]] = []
    for names in by_group.values():
        touching = [one for one in together if one & names]
        together = [one for one in together if not one & names] + [names.union(*touching)]
    order = {name: place for place, name in enumerate(made)}
    sets = sorted((sorted(one, key=order.__getitem__) for one in together if len(one) > 1), key=lambda x: order[x[0]])
    return dict(enumerate(sets, 1))


def _reasons(
    model: nn.Module,
    matrices: Mapping[str, nn.Module],
    uses: Sequence[tuple[str, ...]],
    prunable: Mapping[str, nn.Module],
) -> dict[str, str]:
    """Return the reasons why layers are not prunable, by name."""
    convolutions = [names for names in uses if any(_is_convolution(matrices[name]) for name in names)]
    why = {name: "the first convolution" for names in convolutions[:1] for name in names}
    why |= {name: "produces the output" for names in uses[-1:] for name in names}
    why |= {n: "transposed convolutions must be named" for n, m in matrices.items() if isinstance(m, _TRANSPOSED)}
    why |= {name: "an embedding" for name, module in matrices.items() if isinstance(module, nn.Embedding)}
    return why


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)


def _stays(name: str, coupling: Coupling, plan: Plan) -> str:
    """Return why a layer's filters can never be removed, or else why its zero filters would stay at this sparsity."""
    if name in coupling.layers:
        channels = coupling.layers[name].outputs
    elif name in coupling.carriers:
        channels = coupling.carriers[name].channels
    else:
        return "not followed by the trace, not cut"
    fixed = channels[coupling.group[channels] == FIXED].tolist()
    if fixed:
        known = Counter(coupling.reasons.get(channel, "meets what stays") for channel in fixed)
        known_reason = max(known, key=lambda reason: (reason != "meets what stays", known[reason]))
        return known_reason if len(fixed) == len(channels) else f"{len(fixed)} of {len(channels)}: {known_reason}"
    return "; ".join(f"{count} zero filters {reason}" for reason, count in plan.stays.get(name, {}).items())


def _shared(matrices: Mapping[str, nn.Module], parameters: Mapping[str, tuple[nn.Module, str]]) -> list[str]:
    owners: dict[int, list[str]] = {}
    for name in matrices:
        owners.setdefault(id(getattr(*parameters[name])), []).append(name)
    return [f"share one weight: {', '.join(names)}" for names in owners.values() if len(names) > 1]
