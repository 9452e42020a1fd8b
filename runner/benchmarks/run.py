"""Run the requested measurements of `run bench`. Each result is stored as soon as it is available."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from runner import runs
from runner.benchmarks import load
from runner.benchmarks.rows import ROWS
from runner.benchmarks.setup import Setup
from runner.benchmarks.timing import WARM_UP, Result, Stopwatch, measure
from runner.experiment import Experiment
from runner.training.machine import describe, resolve_device
from runner.training.progress import Progress


def measure_rows(
    config: Mapping[str, Any], parts: Callable[..., Experiment], keep: Callable[[Result], object]
) -> list[Result]:
    """Measure all requested rows. `keep` is called with each result as soon as it is available."""
    device = resolve_device(config["device"])
    stopwatch = Stopwatch(torch.get_num_threads(), partial(_wait_for, device))
    setup = Setup(parts, config["dropouts"], config["pairs"] + WARM_UP)
    progress, results = Progress(unit="pair"), []
    for name in config["only"]:
        for comparison in ROWS[name](setup):
            with progress.counting(config["pairs"], f"{comparison.name} / {comparison.against}") as advance:
                results.append(measure(comparison, config["pairs"], stopwatch, advance))
            keep(results[-1])
    return results


def _wait_for(device: torch.device) -> None:
    """Wait for a GPU, which runs asynchronously, to finish its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def machine_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `MACHINE_COLUMNS`, which are the same in every row of the CSV file."""
    device = resolve_device(config["device"])
    return {
        "date": runs.now(),
        "machine": describe(device),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "precision": config["precision"],
        "torch": torch.__version__,
        "model": config["model"]["name"],
        "batch_size": config["schedule"]["batch_size"],
    }


def warning(results: Sequence[Result]) -> str | None:
    """Return a one-line warning if the machine was busy or the repeats varied for any result, otherwise None."""
    busy, spread = max(result.others for result in results), max(result.spread for result in results)
    return load.warning(busy, spread, torch.get_num_threads(), load.usage().cores)
