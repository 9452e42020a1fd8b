"""Make a pruned network physically smaller."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from runner.compaction.coupling import FIXED, Coupling, Layer
from runner.compaction.planning import (
    Plan,
    Zeros,
    dead_channels,
    make_plan,
    masked_zeros,
    removable_groups,
)
from runner.compaction.scatter import state_names
from runner.compaction.structure import Structure, apply_structure, load_state_sharing, shared_names
from runner.compaction.tracing import find_coupling

REMOVALS = ("clean", "exact")


@dataclass
class LayerCut:
    """One row of the report: how a layer was cut.

    Attributes:
        zero: number of filters that were zero.
        stays: mapping from reason to the number of zero filters kept for that reason.
        scattered: whether the filters are written into a sum by index.
    """

    name: str
    filters: int
    filters_left: int
    columns: int
    columns_left: int
    zero: int
    stays: dict[str, int]
    scattered: bool


@dataclass
class Compact:
    """A cut network.

    Attributes:
        network: the cut network, which computes the same outputs as `reference`.
        structure: how the cut network differs from the network that its class builds.
        reference: the uncut network after cleaning and recalibration, used for comparison in the proof.
        report: one row per layer, in order of computation.
    """

    network: nn.Module
    structure: Structure
    reference: nn.Module
    report: list[LayerCut]


def compact(
    model: nn.Module,
    example: Sequence[Tensor],
    removal: str = "clean",
    recalibrate: Callable[[nn.Module], object] | None = None,
    round_to: int = 1,
    scatter: bool = True,
    fold: bool = False,
) -> Compact:
    """Remove zero filters, unused features, and everything that belongs to them.

    Args:
        model: a pruned, plain model; it is not modified.
        example: arguments of the model's `forward`, for at least two examples.
        removal: how to handle the constant that a zero filter still emits through BatchNorm's shift or a bias. "exact"
            adds it to the layers that follow; where zero padding rules that out, the filter is kept. "clean" sets
            BatchNorm's scale and shift of the channel to zero, and any bias that can't be added to what follows.
        recalibrate: function that recomputes the BatchNorm statistics of the reference in place, after cleaning.
        round_to: make numbers of filters multiples of this.
        scatter: see `make_plan`.
        fold: fold BatchNorm into the preceding layer, which saves a pass over the activations. The folded network can't
            be trained further in the same way.

    Raises:
        ValueError: removal is unknown, round_to is below 1, `example` holds fewer than two examples, or a module can't
            be resized.
    """
    if removal not in REMOVALS:
        raise ValueError(f"removal={removal}: expected one of {', '.join(REMOVALS)}")
    if round_to < 1:
        raise ValueError(f"round_to={round_to}: expected a whole number of at least 1")
    reference = copy.deepcopy(model).eval()
    if removal == "clean":
        clean(reference, find_coupling(reference, example))
    if recalibrate is not None:
        recalibrate(reference)
        reference.eval()
    coupling = find_coupling(reference, example)
    plan = make_plan(coupling, zeros_in(reference, coupling), True, round_to, scatter)
    network, structure = cut(reference, coupling, plan, fold)
    return Compact(network, structure, reference, _report(coupling, plan))


def fold_batch_norm(model: nn.Module, example: Sequence[Tensor]) -> nn.Module:
    """Return a copy of the whole network with BatchNorm folded into the preceding layers."""
    coupling = find_coupling(model, example)
    return cut(model, coupling, make_plan(coupling, masked_zeros(coupling, {})), fold=True)[0]


def zeros_in(model: nn.Module, coupling: Coupling) -> Zeros:
    """Find the filters and columns that are zero in the model."""
    filters, columns = {}, {}
    for name, layer in coupling.layers.items():
        nonzero = _matrix(model, layer).ne(0).any(-1)
        filters[name], columns[name] = ~nonzero.any(1).cpu(), ~nonzero.any(0).cpu()
    depthwise = {}
    for name, carrier in coupling.carriers.items():
        if carrier.kind == "depthwise":
            weight = model.get_submodule(name).weight
            assert isinstance(weight, Tensor)
            depthwise[name] = ~weight.detach().flatten(1).ne(0).any(1).cpu()
    return Zeros(filters, columns, depthwise)


@torch.no_grad()
def clean(model: nn.Module, coupling: Coupling) -> None:
    """Make zero filters emit zero, in place, where this is necessary for removing them.

    BatchNorm's scale and shift of their channels become zero. So does their bias if a padded convolution reads it or if
    it belongs to a query projection.
    """
    zeros = zeros_in(model, coupling)
    dead = dead_channels(coupling, zeros, constants=False)
    silent = dead & removable_groups(coupling, zeros, dead)[coupling.group]
    for name, layer in coupling.layers.items():
        silent[layer.outputs[zeros.filters[name]]] = True
    for name, zero in zeros.depthwise.items():
        silent[coupling.carriers[name].channels[zero]] = True
    for name, carrier in coupling.carriers.items():
        if carrier.kind == "norm":
            _clear(model.get_submodule(name), ("weight", "bias"), silent[carrier.channels])
    padded = torch.zeros(int(coupling.group.max()) + 1, dtype=torch.bool)
    for layer in coupling.layers.values():
        padded[coupling.group[layer.inputs]] |= layer.padded
    padded[FIXED] = False
    queries = {attention.query for attention in coupling.heads}
    for name, layer in coupling.layers.items():
        where = zeros.filters[name] & (padded[coupling.group[layer.outputs]] | (name in queries))
        _clear(model.get_submodule(name), ("bias",), where)


def _clear(module: nn.Module, parameters: Sequence[str], where: Tensor) -> None:
    for name in parameters:
        parameter = getattr(module, name)
        if parameter is not None:
            parameter[where.to(parameter.device)] = 0


@torch.no_grad()
def cut(model: nn.Module, coupling: Coupling, plan: Plan, fold: bool = False) -> tuple[nn.Module, Structure]:
    """Return the network that results from a plan, and its structure. The model is not modified."""
    state = {key: value.detach().clone() for key, value in model.state_dict().items()}
    structure = Structure()
    for name, layer in coupling.layers.items():
        module = model.get_submodule(name)
        outputs, inputs = plan.outputs[name], plan.inputs[name]
        weight, bias = module.weight, module.bias
        gone = plan.removed[coupling.group[layer.inputs]] & ~plan.zeros.columns[name]
        constant = torch.where(gone, (layer.low + layer.high) / 2, 0)
        if constant.any():
            added = _matrix(model, layer).sum(-1) @ constant.to(weight)  # type: ignore[arg-type]
            bias = added if bias is None else bias + added  # type: ignore[operator]
        if len(outputs) == len(layer.outputs) and len(inputs) == len(layer.inputs) and bias is module.bias:
            continue
        pick = (outputs, inputs) if layer.filter_dim == 0 else (inputs, outputs)
        state[f"{name}.weight"] = _select(weight, *pick)
        if bias is not None:
            state[f"{name}.bias"] = _select(bias, outputs)
        structure.layers[name] = {"inputs": len(inputs), "outputs": len(outputs), "bias": bias is not None}
    for name, carrier in coupling.carriers.items():
        channels = plan.channels[name]
        if len(channels) == len(carrier.channels):
            continue
        structure.channels[name] = len(channels)
        for key, value in model.get_submodule(name).state_dict().items():
            if value.dim():
                state[f"{name}.{key}"] = _select(value, channels)
    for attention in coupling.heads:
        if plan.heads[attention.name] < attention.count:
            structure.heads[attention.name] = plan.heads[attention.name]
        before = len(coupling.layers[attention.query].outputs) / attention.count
        after = len(plan.outputs[attention.query]) / plan.heads[attention.name]
        _keep_scale(state, attention.query, before, after)
    if fold:
        _fold(model, coupling, state, structure)
    constants = {}
    for name, index in plan.scattered.items():
        layer = coupling.layers[name]
        assert layer.place is not None
        stays = ~plan.removed[coupling.group[layer.outputs]]
        maker = coupling.carriers.get(layer.place, layer)
        constant = ((maker.made_low + maker.made_high) / 2)[stays].to(state[f"{name}.weight"])
        constant[index] = 0
        structure.scattered[layer.place] = {
            "dim": -1 if isinstance(model.get_submodule(name), nn.Linear) else 1,
            "channels": len(constant),
            "index": index.tolist(),
            "constant": bool(constant.any()),
        }
        if constant.any():
            constants[layer.place] = constant
    network = copy.deepcopy(model)
    apply_structure(network, structure)
    for place in structure.scattered:
        parameters, constant_name = state_names(network, place)
        for key in model.get_submodule(place).state_dict():
            if f"{place}.{key}" in state:
                state[f"{parameters}.{key}"] = state.pop(f"{place}.{key}")
        if place in constants:
            state[constant_name] = constants[place]
    load_state_sharing(network, state, shared_names(network))
    network.train(model.training)  # including modules that replaced others
    return network.to(next(model.parameters()).device), structure


def _fold(model: nn.Module, coupling: Coupling, state: dict[str, Tensor], structure: Structure) -> None:
    """Fold BatchNorm, which in evaluation mode computes y·γ/√(σ² + ε) + β − μ·γ/√(σ² + ε) for each filter."""
    for name, layer in coupling.layers.items():
        norm = model.get_submodule(layer.norm) if layer.norm else None
        if not isinstance(norm, _BatchNorm) or not norm.track_running_stats:
            continue
        parts = {key: state.pop(f"{layer.norm}.{key}") for key in norm.state_dict()}
        scale = (parts["running_var"] + norm.eps).rsqrt() * parts.get("weight", 1)
        shift = parts.get("bias", 0) - parts["running_mean"] * scale
        weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias", 0)
        state[f"{name}.weight"] = weight * scale.view(-1, *[1] * (weight.dim() - 1)).movedim(0, layer.filter_dim)
        state[f"{name}.bias"] = bias * scale + shift
        outputs, inputs = weight.shape[layer.filter_dim], weight.shape[layer.column_dim]
        structure.layers[name] = {"inputs": inputs, "outputs": outputs, "bias": True}
        structure.folded.append(str(layer.norm))


def _keep_scale(state: dict[str, Tensor], query: str, before: float, after: float) -> None:
    """Rescale queries to a new head size, because attention divides scores by the square root of that size."""
    if before != after:
        for key in (f"{query}.weight", f"{query}.bias"):
            if key in state:
                state[key] *= math.sqrt(after / before)


def _matrix(model: nn.Module, layer: Layer) -> Tensor:
    """Return a layer's weight as (filters, columns, taps)."""
    weight = model.get_submodule(layer.name).weight
    assert isinstance(weight, Tensor)
    return weight.detach().movedim(layer.filter_dim, 0).reshape(len(layer.outputs), len(layer.inputs), -1)


def _select(tensor: object, *indices: Tensor) -> Tensor:
    assert isinstance(tensor, Tensor)
    selected = tensor.detach()
    for dim, index in enumerate(indices):
        selected = selected.index_select(dim, index.to(tensor.device))
    return selected.clone()


def _report(coupling: Coupling, plan: Plan) -> list[LayerCut]:
    return [
        LayerCut(
            name,
            len(layer.outputs),
            len(plan.outputs[name]),
            len(layer.inputs),
            len(plan.inputs[name]),
            int(plan.zeros.filters[name].sum()),
            plan.stays.get(name, {}),
            name in plan.scattered,
        )
        for name, layer in coupling.layers.items()
    ]
