"""Costs and latency of dense, compact and sparsely executed networks, timed in interleaved rounds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from runner.benchmarks import load
from runner.compaction.costs import Costs, measure_costs, peak_bytes
from runner.compaction.layers import LayerRow, cut_layers, sparse_layers
from runner.compaction.packing import pack
from runner.compaction.saving import stored_tensors
from runner.compaction.sparse.timing import in_turn
from runner.compaction.tracing import find_coupling
from runner.compaction.ways import (
    DECODING,
    FEED_FORWARD,
    TOKENS,
    WHOLE,
    WHOLE_BATCH,
    Call,
    Eager,
    Sparse,
    Ways,
    image_ways,
    token_ways,
)


@dataclass(frozen=True)
class Timing:
    """What to time, and for how long.

    Args:
        batches: batch sizes for images; networks with other inputs are timed as described in `token_ways`.
        rounds: number of rounds; every way is timed once per round.
        turn: seconds for which a way is repeated in each round; see `in_turn`.
        compile: whether to also time torch.compile.
        onnxruntime: whether to also time ONNX Runtime, if it is installed.
        layers: whether to also time individual layers.
    """

    batches: Sequence[int] = (1, 128)
    rounds: int = 15
    turn: float = 0.02
    compile: bool = False
    onnxruntime: bool = True
    layers: bool = False


@dataclass(frozen=True)
class Way:
    """The latency of one way to execute a network.

    Args:
        network: "dense" or "compact".
        part: which part of the network is executed: all of it, the feed-forward layers of a Transformer, or a language
            model's next token.
        batch: number of images or tokens.
        milliseconds, speedup: median and quartiles. In each round, the speedup is relative to the dense way with the
            lowest median.
        ideal: the FLOPs of the dense network divided by those of this network.
        peak_bytes: see `costs.peak_bytes`; None if unknown.
    """

    network: str
    way: str
    batch: int
    milliseconds: tuple[float, float, float]
    speedup: tuple[float, float, float]
    ideal: float
    peak_bytes: int | None
    part: str = WHOLE


@dataclass
class Measured:
    """All measurements of a certificate.

    Args:
        costs: costs of the networks "dense", "packed" and, if the network was cut, "compact". The FLOPs of a packed
            network are those of its non-zero weights.
        unit: unit of batch sizes, "images" or "tokens".
        turn: see `Timing`.
        layers: mapping from batch size to the times of each layer.
        notes: what could not be measured, and why.
        others: number of cores that other processes kept busy during the measurement.
    """

    costs: dict[str, Costs]
    unit: str
    threads: int
    turn: float
    ways: list[Way] = field(default_factory=list)
    layers: dict[int, list[LayerRow]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    others: float = 0.0


@torch.no_grad()
def measure(
    networks: Mapping[str, nn.Module],
    example: Sequence[Tensor],
    images: Tensor | None,
    stored_bytes: int,
    packed: bool,
    timing: Timing,
) -> Measured:
    """Measure the costs and latency of a compact network and of the whole network.

    Args:
        networks: "trained", which isn't pruned; "reference", the pruned network, whose dense execution is timed; and
            "compact", which was made from the reference.
        example: arguments of the networks' `forward`.
        images: images for timing; None if the networks have other inputs.
        stored_bytes: size of the compact network's files.
        packed: whether the compact network still contains its zeros.
    """
    trained, reference, compact = (networks[name] for name in ("trained", "reference", "compact"))
    whole, small = measure_costs(trained, example), measure_costs(compact, example)
    needed = small.flops - (_zero_flops(compact, example) if packed else 0)
    costs = {"dense": whole}
    if not packed:
        zeros = measure_costs(reference, example)
        file = len(pack(stored_tensors(reference)))
        needed_sparse = zeros.flops - _zero_flops(reference, example)
        costs["packed"] = Costs(zeros.parameters, zeros.nonzero, file, needed_sparse)
    costs["packed" if packed else "compact"] = Costs(small.parameters, small.nonzero, stored_bytes, needed)
    unit = "images" if images is not None else "tokens"
    measured = Measured(costs, unit, torch.get_num_threads(), timing.turn)
    ideal = {"dense": 1.0, "compact": whole.flops / max(1, needed)}
    before = load.usage()
    if images is None:
        whole_batch = sum(part.numel() for part in example)
        for part, calls in token_ways(reference, compact, example, packed, measured.notes).items():
            if calls:
                batch = {FEED_FORWARD: TOKENS, DECODING: 1}.get(part, whole_batch)
                measured.ways += [replace(way, part=part) for way in _timed(calls, batch, ideal, {}, timing)]
    else:
        makers = image_ways(reference, compact, images, packed, timing.compile, timing.onnxruntime, measured.notes)
        for batch in timing.batches:
            x = images.repeat(-(-batch // len(images)), *[1] * (images.dim() - 1))[:batch].contiguous()
            peaks = {"dense": peak_bytes(reference, [x]), "compact": peak_bytes(compact, [x])}
            calls = {key: call for key, make in makers.items() if (call := make(x)) is not None}
            timed = _timed(calls, batch, ideal, peaks, timing)
            measured.ways += timed
            if timing.layers:
                measured.layers[batch] = _layers(makers, timed, x, packed, timing.rounds)
    measured.others = load.others(before, load.usage(), measured.threads)
    return measured


def _layers(makers: Ways, timed: Sequence[Way], x: Tensor, packed: bool, rounds: int) -> list[LayerRow]:
    """Time the layers of the sparse network, or otherwise those of the fastest eager ways."""
    fastest: dict[str, Eager] = {}
    for way in sorted(timed, key=lambda way: way.milliseconds[0]):
        maker = makers[way.network, way.way]
        if packed and isinstance(maker, Sparse):
            return sparse_layers(maker.network, x, rounds)
        if isinstance(maker, Eager) and isinstance(maker.network, nn.Module):
            fastest.setdefault(way.network, maker)
    return cut_layers(fastest["dense"], fastest["compact"], x, rounds) if len(fastest) == 2 else []


def _zero_flops(network: nn.Module, example: Sequence[Tensor]) -> int:
    """Count the operations on zero weights, two for each application of a weight."""
    flops = 0
    for name, layer in find_coupling(network, example).layers.items():
        weight = network.get_parameter(f"{name}.weight")
        flops += 2 * int(weight.numel() - weight.count_nonzero()) * layer.applications
    return flops


def _timed(
    calls: Mapping[tuple[str, str], Call],
    batch: int,
    ideal: Mapping[str, float],
    peaks: Mapping[str, int],
    timing: Timing,
) -> list[Way]:
    with torch.inference_mode():
        times = dict(zip(calls, in_turn(list(calls.values()), timing.rounds, timing.turn), strict=True))
    best = min((key for key in calls if key[0] == "dense"), key=lambda key: statistics.median(times[key]))
    ways = []
    for (network, way), seconds in times.items():
        ratios = [dense / one for dense, one in zip(times[best], seconds, strict=True)]
        peak = peaks.get(network) if way in WHOLE_BATCH else None
        milliseconds = _quartiles([1e3 * one for one in seconds])
        ways.append(Way(network, way, batch, milliseconds, _quartiles(ratios), ideal[network], peak))
    return ways


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and the lower and upper quartile."""
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return middle, lower, upper
