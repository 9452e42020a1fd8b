"""Measure the latency of a sweep's networks when they are cut or executed sparsely."""

import copy
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runner.compaction.cutting import compact
from runner.compaction.sparse.timing import in_turn
from runner.compaction.ways import Call, Key, small_ways
from runner.errors import ConfigError, first_line
from runner.networks import Source, check_pruning, configurations, opened
from runner.runs import Run

GROUP = 8  # networks that are timed in the same rounds and so are in memory together
ROUNDS, TURN = 7, 0.005

Latency = tuple[float, str]  # milliseconds, and the way in which the network was executed


@torch.no_grad()
def latencies(
    rows: Sequence[Mapping[str, Any]], batch: int, data: Mapping[str, Any], config_dir: Path | None = None
) -> list[Latency]:
    """Measure the median latency of each row's network, executed in its fastest way on a batch of validation images.

    Args:
        rows: rows of sweeps, with the run's folder as an additional entry `run`.
        data: `root` and `download`, which locate the runs' data.

    Returns:
        Milliseconds per batch and the way of execution, for each row.

    Raises:
        ConfigError: a network doesn't read images, or can't be cut.
    """
    found: list[Latency] = []
    for first in range(0, len(rows), GROUP):
        calls = [_calls(row, batch, data, config_dir) for row in rows[first : first + GROUP]]
        with torch.inference_mode():
            times = iter(in_turn([call for one in calls for call in one.values()], ROUNDS, TURN))
        for one in calls:
            medians = {way: 1e3 * statistics.median(next(times)) for _, way in one}
            way = min(medians, key=lambda way: medians[way])
            found.append((medians[way], way))
    return found


def _calls(row: Mapping[str, Any], batch: int, data: Mapping[str, Any], config_dir: Path | None) -> dict[Key, Call]:
    network, images = _network(row, data, config_dir)
    x = images.repeat(-(-batch // len(images)), 1, 1, 1)[:batch].contiguous()
    return {key: call for key, make in small_ways(network, images).items() if (call := make(x)) is not None}


def _network(row: Mapping[str, Any], data: Mapping[str, Any], config_dir: Path | None) -> tuple[nn.Module, Tensor]:
    """Return a row's network, cut where whole filters and features are removed, and a few images."""
    source = Source(Run(Path(row["run"])))
    asked: dict[str, Any] = {name: row[name] for name in ("granularity", "scope", "floor", "sparsity")}
    asked |= {"criterion": row["scores"], "width": None, "batch_norm": "kept", "device": "cpu", "data": data}
    asked = check_pruning(asked, [source], config_dir)
    ((_, config),) = configurations([source], asked, config_dir)
    with opened(source, config, asked) as opened_network:
        batch = next(iter(opened_network.experiment.data.eval_batches("validation", 32)))
        if not isinstance(batch, tuple | list):
            raise ConfigError(f"latency: {source.path} doesn't work with images; only such networks can be timed")
        images = batch[0].float().cpu()
        network = copy.deepcopy(opened_network.model).eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        members = opened_network.sweeper.granularities[asked["granularity"]["key"]].members(network)
        if not members.structured:
            return network, images
        try:
            return compact(network, [images[:2]], fold=True).network, images
        except ValueError as error:
            raise ConfigError(f"latency: {source.path} can't be cut: {first_line(error)}") from None
