"""Artificial run folders, created through the same module as real ones."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from runner.files import write_rows
from runner.runs import NOT_IDENTITY, NOT_IDENTITY_OF_DATA, Run, pruning_columns

BASE: dict[str, dict[str, Any]] = {
    "data": {"name": "digits", "validation": 0.1, "length": "50ep"},
    "task": {"name": "classification", "label_smoothing": 0.0},
    "schedule": {"name": "fast", "length": "50ep", "batch_size": 128, "learning_rate": 0.1},
    "model": {"name": "resnet32", "widths": [32, 64, 128], "width": 1.0},
}
DROPOUTS: dict[str, dict[str, Any]] = {
    "none": {},
    "targeted": {"alpha": 0.66, "gamma": 0.75},
    "targeted_unit": {"alpha": 0.9, "gamma": 0.75, "element": False},
    "ramping": {"alpha": 0.99, "gamma": 0.99, "ramp": [0.2, 0.4, 0.4]},
}

Row = Mapping[str, Any]


def _row(sparsity: float, accuracy: float, **more: Any) -> dict[str, Any]:
    """Return one row of pruning.csv."""
    return {
        "granularity": "weight",
        "scope": "layer",
        "scores": "own",
        "floor": 0.0,
        "batch_norm": "kept",
        "sparsity": sparsity,
        "split": "test",
        "actual_sparsity": max(sparsity, more.get("floor", 0.0)) - 0.001,
        "nonzero_weights": 468,
        "prunable_weights": 1849344,
        "accuracy": accuracy,
        "loss": 2 * (1 - accuracy),
        "examples": 360,
        **more,
    }


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    """A function that creates a row of pruning.csv."""
    return _row


_watching: list[list[Path]] = []  # audit hooks cannot be removed from a process


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str):
        for paths in _watching:
            paths.append(Path(arguments[0]).absolute())


sys.addaudithook(_watch)


@pytest.fixture
def opened() -> Callable[[], AbstractContextManager[list[Path]]]:
    """A context that records every file opened in it."""

    @contextmanager
    def watch() -> Iterator[list[Path]]:
        paths: list[Path] = []
        _watching.append(paths)
        try:
            yield paths
        finally:
            _watching.remove(paths)

    return watch


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """A function that writes a run folder below tmp_path/outputs/train, where options by dotted name change its
    configuration.
    """

    def make(
        rows: Sequence[Row] = (), dropout: str = "none", seed: int = 0, state: str = "finished", **options: Any
    ) -> Run:
        metrics = options.pop("metrics", ["accuracy"])
        folder = options.pop("folder", None)
        config: dict[str, Any] = {group: dict(values) for group, values in BASE.items()}
        config |= {"dropout": {"name": dropout, **DROPOUTS.get(dropout, {})}, "seed": seed, "precision": "float32"}
        config |= {"compile": False, "device": "cpu", "prune": {"floor": "auto"}, "outputs": "outputs", "folder": None}
        content = options.pop("content", None)
        for name, value in options.items():
            group, _, key = name.partition(".")
            if key:
                config[group][key] = value
            else:
                config[group] = value
        own = {name: value for name, value in config.items() if name not in NOT_IDENTITY}
        own["data"] = {name: value for name, value in config["data"].items() if name not in NOT_IDENTITY_OF_DATA}
        hash_ = hashlib.sha256(json.dumps([own, content], sort_keys=True).encode()).hexdigest()
        run = Run(folder or tmp_path / "outputs" / "train" / f"x-{hash_[:8]}" / f"seed{seed}")
        run.folder.mkdir(parents=True)
        run.write_config(config, [])
        headline = {"metric": metrics[0], "higher_is_better": True}
        run.write_status(state=state, hash=hash_, headline=headline)
        if rows:
            write_rows(run.pruning_file, pruning_columns(metrics), rows)
        return run

    return make
