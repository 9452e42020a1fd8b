"""Costs of a network or of a planned cut: parameters, bytes, operations and memory."""

import json
import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from runner.compaction.coupling import Coupling
from runner.compaction.planning import Plan
from runner.compaction.saving import stored_tensors
from runner.compaction.scatter import is_wrapped
from runner.compaction.structure import Structure, shared_names
from runner.models.modes import evaluation_mode


@dataclass(frozen=True)
class Costs:
    """The costs of one network.

    Attributes:
        parameters: number of parameters; buffers are not counted.
        nonzero: number of non-zero parameters; None if only shapes are known.
        bytes: size of a safetensors file that holds the float32 tensors, including the header.
        flops: operations of convolutions, linear layers and attention for one example, two per multiply-add.
    """

    parameters: int
    nonzero: int | None
    bytes: int
    flops: int


def measure_costs(network: nn.Module, example: Sequence[Tensor]) -> Costs:
    """Measure the costs of a network of any kind.

    Args:
        example: arguments of the network's `forward`, for any number of examples.
    """
    parameters = list(network.parameters())
    return Costs(
        parameters=sum(parameter.numel() for parameter in parameters),
        nonzero=sum(int(parameter.count_nonzero()) for parameter in parameters),
        bytes=file_bytes({name: tuple(tensor.shape) for name, tensor in stored_tensors(network).items()}),
        flops=count_flops(network, example) // len(example[0]),
    )


def planned_costs(model: nn.Module, coupling: Coupling, plan: Plan) -> Costs:
    """Compute the costs of the network that a plan results in, without building it.

    With removal="exact", a layer without a bias may gain one that holds constants. Such a bias isn't counted.
    """
    shapes = dict(_state(model))
    flops = coupling.other_flops
    for name, layer in coupling.layers.items():
        outputs, inputs = len(plan.outputs[name]), len(plan.inputs[name])
        flops += 2 * outputs * inputs * layer.taps * layer.applications
        pair = (outputs, inputs) if layer.filter_dim == 0 else (inputs, outputs)
        shapes[f"{name}.weight"] = (*pair, *shapes[f"{name}.weight"][2:])
        if f"{name}.bias" in shapes:
            shapes[f"{name}.bias"] = (outputs,)
    for name, carrier in coupling.carriers.items():
        channels = len(plan.channels[name])
        flops += 2 * channels * carrier.taps * carrier.applications
        for key in shapes.keys() & {f"{name}.{key}" for key in ("weight", "bias", "running_mean", "running_var")}:
            shapes[key] = (channels, *shapes[key][1:])
    for attention in coupling.heads:
        features = len(plan.outputs[attention.query]) + len(plan.outputs[attention.value])
        flops += 2 * features * attention.queries_length * attention.keys_length
    trained = {name for name, _ in model.named_parameters()}
    parameters = sum(math.prod(shape) for name, shape in shapes.items() if name in trained)
    for name in plan.scattered:
        place = str(coupling.layers[name].place)
        wrapped = is_wrapped(model, place)
        if f"{place}.bias" in shapes and coupling.layers[name].norm is None:  # what removed filters still add
            stays = ~plan.removed[coupling.group[coupling.layers[name].outputs]]
            shapes[f"{place if wrapped else place.rpartition('.')[0]}.constant"] = (int(stays.sum()),)
        for part, _ in _state(model.get_submodule(place)) if wrapped else ():
            shapes[f"{place}.module.{part}"] = shapes.pop(f"{place}.{part}")
    return Costs(parameters, None, file_bytes(shapes), flops)


def _state(module: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    """Return the names and shapes of the tensors in `stored_tensors`."""
    left_out, state = shared_names(module), module.state_dict().items()
    return [
        (name, tuple(tensor.shape))
        for name, tensor in state
        if not name.endswith("num_batches_tracked") and name not in left_out
    ]


def expected_parameters(model: nn.Module, structure: Structure) -> int:
    """Compute the number of parameters of a whole network after a structure has been applied to it."""
    modules = dict(model.named_modules())
    count = sum(parameter.numel() for parameter in model.parameters())
    changed = {*structure.layers, *structure.channels, *structure.folded}
    count -= sum(parameter.numel() for name in changed for parameter in modules[name].parameters(recurse=False))
    for name, layer in structure.layers.items():
        weight = modules[name].weight
        assert isinstance(weight, Tensor)
        count += layer["inputs"] * layer["outputs"] * weight[0, 0].numel() + layer["outputs"] * layer["bias"]
    for name, channels in structure.channels.items():
        if name not in structure.folded:
            count += sum(channels * parameter[0].numel() for parameter in modules[name].parameters(recurse=False))
    return count


def file_bytes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the size in bytes of a safetensors file of float32 tensors, including its header."""
    header, offset = {}, 0
    for name, shape in sorted(shapes.items()):
        end = offset + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // 8) * 8 + offset


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def count_flops(network: nn.Module, example: Sequence[Tensor]) -> int:
    """Count the operations of one forward pass over the whole example, two per multiply-add.

    PyTorch's counter supports fused attention only on GPUs. Fused attention on the CPU is counted here in the same way.
    """
    return int(_counted(network, example).get_total_flops())


def flops_by_module(network: nn.Module, example: Sequence[Tensor]) -> dict[str, int]:
    """Return the number of operations of each module and its submodules for one example; see `count_flops`."""
    counts = _counted(network, example).get_flop_counts()
    prefix = f"{type(network).__name__}."
    per_module = {str(name).removeprefix(prefix): sum(found.values()) for name, found in counts.items()}
    return {name: int(flops) // len(example[0]) for name, flops in per_module.items()}


@torch.no_grad()
def _counted(network: nn.Module, example: Sequence[Tensor]) -> FlopCounterMode:
    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    with evaluation_mode(network), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        network(*example)
    return counter


class _LiveBytes(TorchDispatchMode):
    """Track the total size in bytes of the live tensors that operations create."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.holders: dict[int, int] = {}  # storage → number of tensors that share it
        self.live = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and not any(tensor is arg for arg in tree_leaves(args)):
                self._hold(tensor)
        return out

    def _hold(self, tensor: Tensor) -> None:
        storage, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        if storage in self.known or not size:
            return
        if storage not in self.holders:
            self.holders[storage] = 0
            self.live += size
            self.peak = max(self.peak, self.live)
        self.holders[storage] += 1
        weakref.finalize(tensor, self._release, storage, size)

    def _release(self, storage: int, size: int) -> None:
        self.holders[storage] -= 1
        if not self.holders[storage]:
            del self.holders[storage]
            self.live -= size


def peak_bytes(network: nn.Module, example: Sequence[Tensor]) -> int:
    """Measure the peak memory of the network's tensors and activations during one forward pass, in bytes.

    Memory is counted tensor by tensor, so it is the same on every machine. The example and workspaces inside
    kernels are not included.
    """
    own = [*network.parameters(), *network.buffers()]
    with torch.inference_mode(), _LiveBytes([*own, *example]) as mode:
        network(*example)
    return mode.peak + sum(tensor.numel() * tensor.element_size() for tensor in own)
