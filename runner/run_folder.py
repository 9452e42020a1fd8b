"""The files, lock, configuration and status of a run folder. Import `Run` from `runner.runs`."""

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runner.errors import DamagedRun, FolderInUse, UserError, damaged
from runner.files import load_config, rows_of, sha256_of, write_text
from runner.tasks.metrics import Metric, of_status

LOGGER_FOLDERS = ("tensorboard", "wandb")


@dataclass(frozen=True)
class Run:
    """A run folder. Paths are properties, reading and writing are methods, and nothing is cached."""

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
    def samples_file(self) -> Path:
        return self.folder / "samples.txt"

    @property
    def events_file(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def log_file(self) -> Path:
        return self.folder / "run.log"

    @property
    def _compact_folders(self) -> Path:
        return self.folder / "compact"

    @property
    def elastic_folder(self) -> Path:
        """The folder compact/elastic, for a network that stores all of its widths in one file."""
        return self._compact_folders / "elastic"

    def compact_folder(self, granularity: str, sparsity: float) -> Path:
        """Return compact/<granularity>-<sparsity>, with the requested sparsity."""
        return self._compact_folders / f"{granularity}-{sparsity:g}"

    def certificates(self) -> list[Path]:
        """Return the path of each compact network's certificate.md. Each has a certificate.csv next to it."""
        return sorted(self._compact_folders.glob("*/certificate.md"))

    @property
    def lock_file(self) -> Path:
        return self.folder / ".lock"

    @property
    def _results(self) -> tuple[Path, ...]:
        """The files and folders that a run writes after its status."""
        return (
            *(self.metrics_file, self.pruning_file, self.pruning_figure, self.weights_file),
            *(self.scores_file, self.samples_file, self.checkpoint_file, self.events_file, self.log_file),
            *(self._compact_folders, *(self.folder / name for name in (".hydra", *LOGGER_FOLDERS))),
        )

    def clear(self) -> None:
        """Delete the files that a run writes, its compact networks and the loggers' folders, but not the lock."""
        for path in (self.status_file, *self._results):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def not_ours(self) -> list[str]:
        """Return the names of files and folders that another program wrote but `clear` would delete.

        In a folder that has a status.json, all files are assumed to be the run's own.
        """
        if self.status_file.exists():
            return []
        return [path.name for path in self._results if path.exists() and path.stat().st_size]

    # --- configuration -------------------------------------------------------------------------------------------

    def write_config(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        self.config_file.parent.mkdir(exist_ok=True)
        write_text(self.config_file, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        write_text(self.overrides_file, yaml.safe_dump(list(overrides), allow_unicode=True))

    def config(self, status: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read the stored configuration as plain YAML, without resolvers and without tags that create objects.

        Args:
            status: the content of status.json, if it has just been read.
        """
        try:
            config = load_config(self._verified(self.config_file, status).decode())
        except FileNotFoundError:
            raise UserError(f"{self.folder} is not a run folder: it has no .hydra/config.yaml") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise damaged(self.config_file, error) from None
        if not isinstance(config, dict):
            raise damaged(self.config_file, ValueError("no configuration in it"))
        if "dropout" in config:  # older runs have no regularizer and no initial weights
            config.setdefault("init", None)
            config.setdefault("regularizer", {"name": "none", "_target_": "runner.regularizers.NoRegularizer"})
        return config

    # --- status --------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return the content of status.json, or {} if there is none. See `state` for the meaning of "running"."""
        try:
            status = json.loads(self.status_file.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise damaged(self.status_file, error) from None
        if not isinstance(status, dict):
            raise damaged(self.status_file, ValueError("no status in it"))
        return status

    def metric(self, name: str) -> Metric:
        """Look up a metric in the description of the run's task."""
        return of_status(self.status(), name)

    def state(self) -> str:
        """Return "running", "interrupted", "finished", "failed", or "" if there is no run.

        A run whose status says "running" but whose lock is free is interrupted.
        """
        return self.state_of(self.status())

    def state_of(self, status: Mapping[str, Any]) -> str:
        """Return `state`, given the content of status.json."""
        state = str(status.get("state", ""))
        return "interrupted" if state == "running" and not self.in_use() else state

    def threads(self) -> int | None:
        """Return the run's number of threads, which affects the rounding of sums, or None if it is unknown."""
        threads = self.status().get("threads")
        return threads if type(threads) is int and 0 < threads <= 1024 else None

    def write_status(self, **changes: Any) -> None:
        status = {**self.status(), **changes}
        write_text(self.status_file, json.dumps(status, indent=2) + "\n")

    # --- checksums -----------------------------------------------------------------------------------------------

    def seal(self, *files: Path, **changes: Any) -> None:
        """Store the checksums of final files and other changes in status.json, in a single write."""
        sums = {str(file.relative_to(self.folder)): sha256_of(file) for file in files}
        self.write_status(**changes, checksums={**self._checksums(), **sums})

    def unseal(self, file: Path) -> None:
        """Remove the checksum of a file that is about to change, so that a killed process leaves no mismatch."""
        sums = self._checksums()
        if sums.pop(str(file.relative_to(self.folder)), None) is not None:
            self.write_status(checksums=sums)

    def sealed(self, file: Path) -> bool:
        return str(file.relative_to(self.folder)) in self._checksums()

    def verify(self, file: Path) -> None:
        """Compare a file with its checksum. A file that is missing or has no checksum passes.

        Raises:
            DamagedRun: the content has changed.
        """
        expected = self._checksums().get(str(file.relative_to(self.folder)))
        if expected is not None and file.exists() and sha256_of(file) != expected:
            raise self._changed(file)

    def _verified(self, file: Path, status: Mapping[str, Any] | None) -> bytes:
        """Read a small file once, compare it with its checksum like `verify`, and return its content."""
        content = file.read_bytes()
        expected = self._checksums(status).get(str(file.relative_to(self.folder)))
        if expected is not None and hashlib.sha256(content).hexdigest() != expected:
            raise self._changed(file)
        return content

    def _changed(self, file: Path) -> DamagedRun:
        error = ValueError(f"its checksum is not the one in {self.status_file.name}")
        return self.damaged_rows(error) if file == self.pruning_file else damaged(file, error)

    def verify_all(self) -> None:
        """Raise DamagedRun if a file of a finished run does not match its checksum."""
        for file in (self.config_file, self.weights_file, self.scores_file, self.pruning_file):
            self.verify(file)

    def _checksums(self, status: Mapping[str, Any] | None = None) -> dict[str, Any]:
        sums = (self.status() if status is None else status).get("checksums")
        return dict(sums) if isinstance(sums, dict) else {}

    # --- results -------------------------------------------------------------------------------------------------

    def pruning_rows(self, status: Mapping[str, Any] | None = None) -> list[dict[str, str]]:
        """Return the rows of pruning.csv, or [] if it does not exist yet.

        Args:
            status: the content of status.json, if it has just been read.

        Raises:
            DamagedRun: the file has changed since the last sweep, or is not text.
        """
        try:
            return rows_of(self._verified(self.pruning_file, status).decode())
        except FileNotFoundError:
            return []
        except UnicodeDecodeError as error:
            raise damaged(self.pruning_file, error) from None

    def damaged_rows(self, error: Exception) -> DamagedRun:
        """Return an error that explains what is wrong with pruning.csv and how to repeat the sweep."""
        again = f"delete it and run prune {self.folder} measures again, or run train … force=true starts over"
        return damaged(self.pruning_file, error, again)

    # --- lock ----------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder, which is created if necessary, for the duration of the context.

        Raises:
            FolderInUse: another process holds the lock.
            UserError: the folder cannot be written to, or its file system has no locks.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = self.lock_file.open("a")
        except OSError as error:
            raise UserError(f"can't write into {self.folder}: {error.strerror}") from None
        with handle:
            # Try twice, because another process may hold the lock briefly in `in_use`.
            for wait in (0.2, 0.0):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(wait)
                except OSError as error:
                    raise UserError(
                        f"{self.folder}: its file system has no locks (flock: {error.strerror}), so two processes "
                        "could train the same run; choose outputs= on another, or mount it with locks"
                    ) from None
            else:
                raise FolderInUse(f"{self.folder} is in use by another process; left as it is")
            yield

    def in_use(self) -> bool:
        """Return whether a process holds the folder's lock."""
        try:
            with self.lock_file.open() as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False
