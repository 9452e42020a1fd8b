"""Per-layer times of a sparse network, for the dense layers and for the chosen kernels."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.compaction.sparse.executor import GROUP, Compiled
from runner.compaction.sparse.graph import Taps
from runner.compaction.sparse.network import SparseNetwork
from runner.compaction.sparse.operations import SUMS
from runner.compaction.sparse.timing import in_turn

Milliseconds = dict[str, float]


@dataclass(frozen=True)
class LayerTime:
    """One row of `layer_times`.

    Args:
        layer: name of the convolution or linear layer; names are joined by "+" if one pass computes several layers. For
            an operation without weights, its name in the trace.
        shape: shape of the result for one image: channels, height, width.
        sparsity: fraction of the weights that are zero; None for an operation without weights.
        kernel: "taps" and "rows" skip every zero. "blocks" and "columns" are dense and only skip weights that are zero
            in all filters of a block. The others move data.
        dense_ms: time per batch of PyTorch's layer and a ReLU, in the faster of two memory formats; None for an
            operation without weights.
        sparse_ms: time per batch of the chosen kernel, including BatchNorm, ReLU, the residual sum and the
            rearrangement of its input.
    """

    layer: str
    shape: tuple[int, int, int]
    sparsity: float | None
    kernel: str
    dense_ms: float | None
    sparse_ms: float


def layer_times(network: SparseNetwork, images: Tensor, rounds: int = 15) -> list[LayerTime]:
    """Measure the median time of each layer on one thread, dense and sparse, in the order of execution.

    Args:
        network: network returned by `sparsify`; if it stayed dense, the result is empty.
        images: a batch of images for the network.
    """
    if network.executor is None:
        return []
    executor, images = network.executor, images.detach().contiguous()
    program = executor.grouped if executor.grouped and len(images) >= GROUP else executor.single
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            taken: list[np.ndarray] = []
            calls: list[tuple[str, Callable[[], object]]] = [("", lambda: taken.append(_times(program, images)))]
            for name, x in _inputs(network.dense, images).items():
                calls += [(name, call) for call in _dense_calls(network.dense.get_submodule(name), x)]
            times = in_turn([call for _, call in calls], rounds)
    finally:
        torch.set_num_threads(threads)
    dense: Milliseconds = {}
    for (name, _), took in zip(calls, times, strict=True):
        median = 1e3 * statistics.median(took)
        dense[name] = min(median, dense.get(name, median))
    return _rows(program, network.dense, dense, np.median(taken[1:], 0))


def _rows(program: Compiled, model: nn.Module, dense: Milliseconds, sparse: np.ndarray) -> list[LayerTime]:
    rows, before = [], 0.0
    for step, took in zip(program.steps, sparse.tolist(), strict=True):
        if step.kernel == "split":  # belongs to the layer that comes next
            before += took
            continue
        layers = step.node.layers if isinstance(step.node, Taps) and step.kernel in SUMS else []
        name = "+".join(layers) or step.node.name
        weights = [model.get_parameter(f"{layer}.weight") for layer in layers]
        zeros, size = sum(w.numel() - w.count_nonzero().item() for w in weights), sum(w.numel() for w in weights)
        sparsity = zeros / size if size else None
        dense_ms = sum(dense[layer] for layer in layers) if layers else None
        rows.append(LayerTime(name, step.node.shape, sparsity, step.kernel, dense_ms, before + took))
        before = 0.0
    return rows


def _times(program: Compiled, images: Tensor) -> np.ndarray:
    """Return the milliseconds of each operation on all images, scaled up if the last group isn't full."""
    count = len(images) // program.group * program.group
    times = np.zeros(len(program.steps), np.int64)
    results = torch.empty(count, program.output_size)
    program.run(images.data_ptr(), results.data_ptr(), count, times)
    return times / 1e6 * len(images) / count


def _inputs(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the input of every convolution and linear layer."""
    found: dict[str, Tensor] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            handles.append(module.register_forward_pre_hook(lambda _, args, name=name: found.setdefault(name, args[0])))
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _dense_calls(layer: nn.Module, x: Tensor) -> list[Callable[[], object]]:
    def call(layer: nn.Module, x: Tensor) -> Tensor:
        return F.relu_(layer(x))

    if isinstance(layer, nn.Linear):
        return [partial(call, layer, x)]
    assert isinstance(layer, nn.Conv2d)
    last = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        layer.groups,
        layer.bias is not None,
    )
    last.load_state_dict(layer.state_dict())
    last = last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return [partial(call, layer, x), partial(call, last, x.contiguous(memory_format=torch.channels_last))]
