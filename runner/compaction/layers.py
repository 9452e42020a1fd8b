"""Per-layer times of the whole and the compact network."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runner.compaction.sparse import SparseNetwork, layer_times
from runner.compaction.ways import Eager

REST = "everything else"  # BatchNorm, ReLU, sums, pooling, and PyTorch itself


@dataclass(frozen=True)
class LayerRow:
    """Times of one layer, or of all other operations (REST), in milliseconds per batch.

    Args:
        shape: description of what remains of the layer.
        ideal: factor by which the number of multiplications is reduced; None if there are no weights or none remain.
        dense_ms, small_ms: times in the dense and in the compact network.
    """

    layer: str
    shape: str
    ideal: float | None
    dense_ms: float | None
    small_ms: float


def sparse_layers(network: SparseNetwork, x: Tensor, rounds: int) -> list[LayerRow]:
    """Return one row per operation of a sparse network; see `layer_times`."""
    rows = []
    for one in layer_times(network, x, rounds):
        zeros = "" if one.sparsity is None else f"{100 * one.sparsity:.1f} % zeros, "
        ideal = None if one.sparsity in (None, 1.0) else 1 / (1 - one.sparsity)
        shape = f"{zeros}{one.kernel}, {'x'.join(map(str, one.shape))}"
        rows.append(LayerRow(one.layer, shape, ideal, one.dense_ms, one.sparse_ms))
    return rows


def cut_layers(dense: Eager, small: Eager, x: Tensor, rounds: int) -> list[LayerRow]:
    """Return the median times over alternating runs, one row per convolution or linear layer and one for the rest."""
    watches = [_Watch(dense), _Watch(small)]
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for watch in watches:
                watch.run(x)
    (whole, whole_rest), (cut, cut_rest) = (watch.medians() for watch in watches)
    rows = []
    for name, milliseconds in cut.items():
        before, after = (_weight(watch, name) for watch in watches)
        shape = f"{after.shape[0]} of {before.shape[0]} filters, {after.shape[1]} of {before.shape[1]} inputs"
        rows.append(LayerRow(name, shape, before.numel() / after.numel(), whole[name], milliseconds))
    return [*rows, LayerRow(REST, "", None, whole_rest, cut_rest)]


def _weight(watch: "_Watch", name: str) -> Tensor:
    weight = watch.layers[name].weight
    assert isinstance(weight, Tensor)
    return weight


class _Watch:
    """Measures the time of each convolution and linear layer in an eagerly executed network."""

    def __init__(self, way: Eager) -> None:
        assert isinstance(way.network, nn.Module)
        self.way = way
        self.layers = {
            name.removesuffix(".module"): module  # inside a Scatter
            for name, module in way.network.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        }
        self.taken: list[dict[str, float]] = []
        self.totals: list[float] = []

    def run(self, x: Tensor) -> None:
        """Run the network once with timing hooks that are removed afterwards."""
        taken = dict.fromkeys(self.layers, 0.0)
        starts: dict[str, float] = {}

        def start(name: str) -> Any:
            return lambda *_: starts.update({name: time.perf_counter()})

        def stop(name: str) -> Any:
            return lambda *_: taken.update({name: taken[name] + time.perf_counter() - starts[name]})

        hooks = [layer.register_forward_pre_hook(start(name)) for name, layer in self.layers.items()]
        hooks += [layer.register_forward_hook(stop(name)) for name, layer in self.layers.items()]
        call = self.way(x)
        assert call is not None
        begin = time.perf_counter()
        call()
        self.totals.append(time.perf_counter() - begin)
        self.taken.append(taken)
        for hook in hooks:
            hook.remove()

    def medians(self) -> tuple[dict[str, float], float]:
        """Return the median times of each layer and of the rest in milliseconds, excluding the first run."""
        layers = {name: _median([one[name] for one in self.taken[1:]]) for name in self.layers}
        rest = [total - sum(one.values()) for total, one in zip(self.totals[1:], self.taken[1:], strict=True)]
        return layers, _median(rest)


def _median(seconds: Sequence[float]) -> float:
    return 1e3 * statistics.median(seconds)
