"""The run folder: its identity, lock, status and every file name and CSV column in it.

The only module that knows them. Imports no torch, so that listing runs is quick.
"""

import csv
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runner.errors import ConfigError, DamagedRun, FolderInUse, UserError

# What does not determine the weights, or is found again in the folder's name.
NOT_IDENTITY = ("seed", "prune", "force", "device", "folder", "outputs", "checkpoint_minutes")
NOT_IDENTITY_OF_DATA = ("root", "download", "length")

POINT_COLUMNS = ("granularity", "scope", "scores", "floor", "batch_norm", "sparsity", "split")
COUNT_COLUMNS = ("actual_sparsity", "nonzero_weights", "prunable_weights")
TIMING_COLUMNS = ("examples_per_second", "seconds")


def metrics_columns(metrics: Sequence[str]) -> list[str]:
    """Columns of metrics.csv for a task's metrics."""
    validation = [f"validation_{name}" for name in ("loss", *metrics)]
    training = ["train_loss", "train_penalty", *(f"train_{name}" for name in metrics)]
    return ["epoch", "step", "learning_rate", *training, *validation, *TIMING_COLUMNS]


def pruning_columns(metrics: Sequence[str]) -> list[str]:
    """Columns of pruning.csv for a task's metrics."""
    return [*POINT_COLUMNS, *COUNT_COLUMNS, *metrics, "loss", "examples"]


def identity(config: Mapping[str, Any], content: str | None = None) -> str:
    """Hash, 64 hex digits, of all that determines the weights but the seed.

    Args:
        config: the settled configuration (plain values, resolved precision).
        content: a fingerprint of the user's own corpus, where the data is one.
    """
    kept = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    kept["data"] = {key: value for key, value in config["data"].items() if key not in NOT_IDENTITY_OF_DATA}
    if kept.get("regularizer", {}).get("name") == "none":
        del kept["regularizer"]  # so that runs from before there were regularizers keep their names
    if content is not None:
        kept["content"] = content
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def default_folder(config: Mapping[str, Any], hash_: str) -> Path:
    """outputs/train/<data>-<model>-<dropout>-<8 hex>/seed<seed>"""
    names = "-".join(config[group]["name"] for group in ("data", "model", "dropout"))
    return Path(config["outputs"]) / "train" / f"{names}-{hash_[:8]}" / f"seed{config['seed']}"


@dataclass(frozen=True)
class Run:
    """One run folder. Paths are properties; reading and writing are methods; nothing is cached."""

    folder: Path

    @property
    def status_file(self) -> Path:
        return self.folder / "status.json"

    @property
    def config_file(self) -> Path:
        return self.folder / ".hydra" / "config.yaml"

    @property
    def overrides_file(self) -> Path:
        return self.folder / ".hydra" / "overrides.yaml"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.csv"

    @property
    def pruning_file(self) -> Path:
        return self.folder / "pruning.csv"

    @property
    def pruning_figure(self) -> Path:
        return self.folder / "pruning.png"

    @property
    def weights_file(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def scores_file(self) -> Path:
        return self.folder / "scores.safetensors"

    @property
    def checkpoint_file(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def log_file(self) -> Path:
        return self.folder / "run.log"

    @property
    def lock_file(self) -> Path:
        return self.folder / ".lock"

    def clear(self) -> None:
        """Delete what a run writes, and nothing else; the lock stays."""
        for path in (
            *(self.status_file, self.metrics_file, self.pruning_file, self.pruning_figure, self.weights_file),
            *(self.scores_file, self.checkpoint_file, self.log_file),
        ):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder / ".hydra", ignore_errors=True)

    # --- configuration -------------------------------------------------------------------------------------------

    def write_config(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        self.config_file.parent.mkdir(exist_ok=True)
        write_text(self.config_file, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        write_text(self.overrides_file, yaml.safe_dump(list(overrides), allow_unicode=True))

    def config(self) -> dict[str, Any]:
        """The stored configuration: plain YAML, no resolvers, no tags that make objects."""
        try:
            config = yaml.safe_load(self.config_file.read_text())
        except FileNotFoundError:
            raise UserError(f"{self.folder} is no run folder: it has no .hydra/config.yaml") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise damaged(self.config_file, error) from None
        if not isinstance(config, dict):
            raise damaged(self.config_file, ValueError("no configuration in it"))
        return config

    # --- status --------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What status.json says; {} where there is none. A state "running" without a lock is "interrupted"."""
        try:
            status = json.loads(self.status_file.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise damaged(self.status_file, error) from None
        if not isinstance(status, dict):
            raise damaged(self.status_file, ValueError("no status in it"))
        return status

    def state(self) -> str:
        """running, interrupted, finished, failed, or "" where there is no run."""
        state = str(self.status().get("state", ""))
        return "interrupted" if state == "running" and not self.in_use() else state

    def write_status(self, **changes: Any) -> None:
        status = {**self.status(), **changes}
        write_text(self.status_file, json.dumps(status, indent=2) + "\n")

    # --- lock ----------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, which is made if it is missing.

        Raises:
            FolderInUse: another process holds it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = self.lock_file.open("a")
        except OSError as error:
            raise UserError(f"can't write into {self.folder}: {error.strerror}") from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderInUse(f"{self.folder} is in use by another process; left as it is") from None
            yield

    def in_use(self) -> bool:
        """Whether some process holds the folder."""
        try:
            with self.lock_file.open() as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False


# --- files -----------------------------------------------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """Write beside and rename: a reader or a crash never sees half a file."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.replace(path)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; a last line that a crash cut short is left out. [] where there is no file."""
    try:
        lines = path.read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    rows = csv.DictReader(lines)
    return [row for row in rows if None not in row and None not in row.values()]


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A whole CSV file, at once."""
    beside = path.with_name(path.name + ".new")
    with beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    beside.replace(path)


def append_row(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """One more row, on disk when this returns."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
        file.flush()
        os.fsync(file.fileno())


def cut_metrics(run: Run, columns: Sequence[str], step: int) -> None:
    """Cut metrics.csv back to the rows up to a training step."""
    rows = [row for row in read_rows(run.metrics_file) if int(row["step"]) <= step]
    run.metrics_file.unlink(missing_ok=True) if not rows else write_rows(run.metrics_file, columns, rows)


def find_runs(folders: Iterable[Path | str]) -> list[Run]:
    """All runs at or below the folders, sorted by path.

    Raises:
        ConfigError: a folder is missing or holds no run.
    """
    found = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ConfigError(f"{folder} is no folder")
        runs = [Run(path.parent.parent) for path in folder.rglob(".hydra/config.yaml")]
        if not runs:
            raise ConfigError(
                f"{folder} is no run folder and holds none (a run has .hydra/config.yaml and status.json)"
            )
        found += runs
    return sorted(set(found), key=lambda run: str(run.folder))


def point_key(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells one row of pruning.csv from another."""
    return tuple(str(row[column]) for column in POINT_COLUMNS)


def damaged(path: Path, error: Exception) -> DamagedRun:
    """The error that says which file can't be used, and what helps."""
    return DamagedRun(f"{path} is damaged ({first_line(error)[:100]}); force=true starts over")


def now() -> str:
    """Local time with offset, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def first_line(error: BaseException) -> str:
    """An error's first line, or its class."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
