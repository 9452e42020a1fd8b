"""The main function of `run coadapt`: study each run, and write tables, matrices and a figure."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runner.analyses.coadaptation.dependence import dependence, passes
from runner.analyses.coadaptation.report import Result, markdown, picture, save_matrix, table
from runner.analyses.coadaptation.surface import Surface
from runner.analyses.output import folder_of, write_tables
from runner.analyses.sources import Sources
from runner.config.build import target
from runner.config.rules import show
from runner.errors import ConfigError
from runner.experiment import Experiment
from runner.models.layers import prunable_layers
from runner.runs import Run
from runner.seeding import derive_seed
from runner.tasks.classification import Classification
from runner.training.progress import Progress

# By default the matrix contains all of up to ALL weights, or SOME of up to SOME_OF weights. Above that there is no
# matrix, and computation is in float32.
ALL = 4_000
SOME_OF = 100_000
SOME = 1_000


def study(sources: Sources, options: Mapping[str, Any]) -> tuple[str, list[Path]]:
    """Study every run, and return the page and the paths of the written files."""
    results = [_result(column, one.run, sources.configs[one.run], options) for column, one in sources.columns()]
    folder = folder_of(options, "coadaptation", sources.names("data", "model"))
    rows = table(results)
    text = markdown(rows, results, sources.notes)
    paths = write_tables(folder, {"table": rows}, text)
    matrices = [save_matrix(one, folder) for one in results if one.found.shown is not None]
    return text, [*paths, *matrices, *([picture(results, folder / "matrix.png")] if matrices else [])]


def _result(column: str, run: Run, config: dict[str, Any], options: Mapping[str, Any]) -> Result:
    if not issubclass(target(config, "task"), Classification):
        raise ConfigError(f"{run.folder}: run coadapt needs a run of task=classification")
    parts = Experiment.from_config(config)
    split = options["split"]
    if split not in parts.data.splits:
        raise ConfigError(f"split={split}: {run.folder} has {', '.join(parts.data.splits)}")
    parts.load(run)
    layers = _layers(parts.model, options["layers"])
    weights, probes = sum(layer.weight.numel() for layer in layers.values()), options["probes"] or 0
    members, dtype = _members(options["members"], weights), _dtype(options["dtype"], weights, parts.device)
    batches = partial(parts.data.eval_batches, split, options["limit"])
    examples = min(parts.data.sizes()[split], options["limit"] or 10**12)
    generator = torch.Generator().manual_seed(derive_seed(options["seed"], "probes"))
    with (
        Progress().counting(examples * passes(weights, members, probes), str(run.folder)) as advance,
        # TF32 on a GPU would lose half of the digits of float32.
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        surface = Surface(parts.model, layers, batches, dtype, advance)
        found = dependence(surface, options["sparsity"], members, probes, generator)
    return Result(column, config, split, examples, found)


def _layers(model: nn.Module, names: Any) -> dict[str, Any]:
    try:
        return prunable_layers(model, names)
    except ValueError as error:
        raise ConfigError(f"layers={show(names)}: {error}") from None


def _dtype(asked: str, weights: int, device: torch.device) -> torch.dtype:
    has_float64 = device.type != "mps"
    if asked == "float64" and not has_float64:
        raise ConfigError("dtype=float64: not available on mps; expected auto, float32")
    double = asked == "float64" or (asked == "auto" and has_float64 and weights <= SOME_OF)
    return torch.float64 if double else torch.float32


def _members(asked: int | str, weights: int) -> int:
    if asked == "auto":
        return weights if weights <= ALL else SOME if weights <= SOME_OF else 0
    return min(int(asked), weights)
