"""Utilities for run folders: default paths, CSV columns, and search.

CSV columns are defined only here, and file names only in `runner.run_folder`. This module does not import torch, so
that listing runs is fast.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.errors import ConfigError, damaged
from runner.files import read_rows, write_rows
from runner.run_folder import Run as Run
from runner.tasks.metrics import Metric, names_of

# Options that do not determine the weights, or that are part of the folder's name.
NOT_IDENTITY = (
    "seed",
    "prune",
    "force",
    "device",
    "processes",
    "folder",
    "outputs",
    "checkpoint_minutes",
    "loggers",
    "note",
)
NOT_IDENTITY_OF_DATA = ("root", "download", "length", "workers")
FORMAT = 2  # the format of a run folder; format 1 had other hashes, see runner.config.identity
SMOKE = "smoke"  # the subfolder of outputs for the runs of debug=smoke
TICKET_DROPOUT = "runner.dropout.masked.Masked"  # the class that identifies the runs of run ticket

POINT_COLUMNS = ("granularity", "scope", "scores", "floor", "batch_norm", "sparsity", "split")
COUNT_COLUMNS = ("actual_sparsity", "nonzero_weights", "prunable_weights")
# The costs of the network when cut or packed. They are empty if unknown, and missing in older files.
COST_COLUMNS = ("flops", "parameters", "bytes", "effective_sparsity")
TIMING_COLUMNS = ("examples_per_second", "seconds")


def scope_of(status: Mapping[str, Any]) -> str:
    """Return the scope of a run's variant, as stored in status.json. `prune.scope=auto` stands for this scope."""
    return str(status.get("scope", "layer"))


def own_scopes(swept: Iterable[tuple[str, str]], own: str) -> dict[str, str]:
    """Return the scope that `prune.scope=auto` stands for in each granularity.

    It is the variant's, or layer for granularities that were not pruned in the variant's scope: n:m patterns support no
    other.

    Args:
        swept: granularity and scope of rows of pruning.csv, except those for the unpruned network.
        own: the scope of the variant.
    """
    swept = set(swept)
    return {granularity: own if (granularity, own) in swept else "layer" for granularity, _ in swept}


def shown_floors(swept: Iterable[tuple[str, float]], own: Mapping[str, float]) -> dict[str, float]:
    """Return the floor that `prune.floor=auto` stands for in each granularity, or the first sweep's if none used it.

    Args:
        swept: granularity and floor of rows of pruning.csv, except those for the unpruned network.
        own: the floors of the variant, see `floors_of`.
    """
    floors: dict[str, float] = {}
    for granularity, floor in swept:
        if granularity not in floors or floor == own.get(granularity, own[""]):
            floors[granularity] = floor
    return floors


def floors_of(status: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, float]:
    """Return the floor of a run's variant for each granularity, as stored by its sweep.

    The key "" stands for granularities that are not listed. Runs of format 1 do not store a floor; theirs is γ.
    """
    if isinstance(floors := status.get("floors"), dict):
        return {"": 0.0, **{str(name): round(float(floor), 9) for name, floor in floors.items()}}
    gamma = config.get("dropout", {}).get("gamma", 0.0)
    return {"": round(float(gamma), 9) if isinstance(gamma, int | float) else 0.0}


def metrics_columns(metrics: Iterable[Metric | str]) -> list[str]:
    """Return the columns of metrics.csv for a task's metrics."""
    names = names_of(metrics)
    validation = [f"validation_{name}" for name in ("loss", *names)]
    training = ["train_loss", "train_penalty", *(f"train_{name}" for name in names)]
    return ["epoch", "step", "learning_rate", *training, *validation, *TIMING_COLUMNS]


def pruning_columns(metrics: Iterable[Metric | str]) -> list[str]:
    """Return the columns of pruning.csv for a task's metrics."""
    return [
        *POINT_COLUMNS,
        *COUNT_COLUMNS,
        *COST_COLUMNS,
        *names_of(metrics),
        "loss",
        "examples",
    ]


def default_folder(config: Mapping[str, Any], hash_: str) -> Path:
    """Return outputs/train/<data>-<model>-<dropout>-<8 hex>/seed<seed>; a regularizer's name follows the dropout's."""
    names = [config[group]["name"] for group in ("data", "model", "dropout")]
    if config["regularizer"]["name"] != "none":
        names.append(config["regularizer"]["name"])
    return Path(config["outputs"]) / "train" / "-".join([*names, hash_[:8]]) / f"seed{config['seed']}"


def cut_metrics(run: Run, columns: Sequence[str], step: int) -> None:
    """Remove the rows of metrics.csv that come after a training step."""
    try:
        rows = [row for row in read_rows(run.metrics_file) if int(row["step"]) <= step]
    except (KeyError, ValueError) as error:
        raise damaged(run.metrics_file, error) from None
    run.metrics_file.unlink(missing_ok=True) if not rows else write_rows(run.metrics_file, columns, rows)


def find_runs(folders: Iterable[Path | str]) -> list[Run]:
    """Find all runs at or below the folders, sorted by path.

    Raises:
        ConfigError: a folder does not exist or contains no run.
    """
    found = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ConfigError(f"{folder} is not a folder")
        runs = [Run(path.parent.parent) for path in folder.rglob(".hydra/config.yaml")]
        if not runs:
            raise ConfigError(
                f"{folder} is not a run folder and contains none (a run has .hydra/config.yaml and status.json)"
            )
        found += runs
    return sorted(set(found), key=lambda run: str(run.folder))


def without_smoke(found: Iterable[Run], outputs: Path) -> tuple[list[Run], int]:
    """Leave out the debug=smoke runs under `outputs`; return the other runs and the number of those left out."""
    found = list(found)
    results = [run for run in found if not run.folder.is_relative_to(outputs / SMOKE)]
    return results, len(found) - len(results)


def point_key(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the key that identifies a row of pruning.csv."""
    return tuple(str(row[column]) for column in POINT_COLUMNS)


def now() -> str:
    """Return the local time with its UTC offset, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
