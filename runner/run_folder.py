"""One run folder: its files, lock, configuration and status. Imported from `runner.runs`."""

import fcntl
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
from runner.files import read_rows, sha256_of, write_text
from runner.tasks.metrics import Metric, of_status

LOGGER_FOLDERS = ("tensorboard", "wandb")


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
        """compact/elastic: one file for every width."""
        return self._compact_folders / "elastic"

    def compact_folder(self, granularity: str, sparsity: float) -> Path:
        """compact/<granularity>-<sparsity>, of the sparsity that was asked for."""
        return self._compact_folders / f"{granularity}-{sparsity:g}"

    def certificates(self) -> list[Path]:
        """The certificate.md of each compact network, beside which there is a certificate.csv."""
        return sorted(self._compact_folders.glob("*/certificate.md"))

    @property
    def lock_file(self) -> Path:
        return self.folder / ".lock"

    @property
    def _results(self) -> tuple[Path, ...]:
        """What a run writes after its status."""
        return (
            *(self.metrics_file, self.pruning_file, self.pruning_figure, self.weights_file),
            *(self.scores_file, self.samples_file, self.checkpoint_file, self.events_file, self.log_file),
        )

    def clear(self) -> None:
        """Delete what a run writes, and nothing else; the lock stays."""
        for path in (self.status_file, *self._results):
            path.unlink(missing_ok=True)
        for folder in (self._compact_folders, self.folder / ".hydra", *(self.folder / name for name in LOGGER_FOLDERS)):
            shutil.rmtree(folder, ignore_errors=True)

    def not_ours(self) -> list[str]:
        """Names of files that some other program wrote, and `clear` would delete: there before any status."""
        if self.status_file.exists():
            return []
        found = [path.name for path in self._results if path.exists() and path.stat().st_size]
        return [*found, *([".hydra"] if self.config_file.parent.exists() else [])]

    # --- configuration -------------------------------------------------------------------------------------------

    def write_config(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        self.config_file.parent.mkdir(exist_ok=True)
        write_text(self.config_file, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        write_text(self.overrides_file, yaml.safe_dump(list(overrides), allow_unicode=True))

    def config(self) -> dict[str, Any]:
        """The stored configuration: plain YAML, no resolvers, no tags that make objects."""
        self.verify(self.config_file)
        try:
            config = yaml.safe_load(self.config_file.read_text())
        except FileNotFoundError:
            raise UserError(f"{self.folder} is no run folder: it has no .hydra/config.yaml") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise damaged(self.config_file, error) from None
        if not isinstance(config, dict):
            raise damaged(self.config_file, ValueError("no configuration in it"))
        if "dropout" in config:  # runs from before there were regularizers and initial weights have none
            config.setdefault("init", None)
            config.setdefault("regularizer", {"name": "none", "_target_": "runner.regularizers.NoRegularizer"})
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

    def metric(self, name: str) -> Metric:
        """How the run's task describes one of its metrics."""
        return of_status(self.status(), name)

    def state(self) -> str:
        """running, interrupted, finished, failed, or "" where there is no run."""
        state = str(self.status().get("state", ""))
        return "interrupted" if state == "running" and not self.in_use() else state

    def threads(self) -> int | None:
        """How many threads the run computes with: sums over another number of them round differently."""
        threads = self.status().get("threads")
        return threads if type(threads) is int and 0 < threads <= 1024 else None

    def write_status(self, **changes: Any) -> None:
        status = {**self.status(), **changes}
        write_text(self.status_file, json.dumps(status, indent=2) + "\n")

    # --- checksums -----------------------------------------------------------------------------------------------

    def seal(self, *files: Path, **changes: Any) -> None:
        """Store checksums of files that are final in status.json, with other changes to it in the same write."""
        sums = {str(file.relative_to(self.folder)): sha256_of(file) for file in files}
        self.write_status(**changes, checksums={**self._checksums(), **sums})

    def unseal(self, file: Path) -> None:
        """Forget a file's checksum, before the file changes: a kill between two writes never reads as damage."""
        sums = self._checksums()
        if sums.pop(str(file.relative_to(self.folder)), None) is not None:
            self.write_status(checksums=sums)

    def sealed(self, file: Path) -> bool:
        return str(file.relative_to(self.folder)) in self._checksums()

    def verify(self, file: Path) -> None:
        """Hold a file against its checksum. One that is missing, or has no checksum, passes.

        Raises:
            DamagedRun: the content is another.
        """
        expected = self._checksums().get(str(file.relative_to(self.folder)))
        if expected is not None and file.exists() and sha256_of(file) != expected:
            error = ValueError(f"its checksum is not the one in {self.status_file.name}")
            raise self.damaged_rows(error) if file == self.pruning_file else damaged(file, error)

    def verify_all(self) -> None:
        """Hold the files of a finished run against their checksums; errors as `verify`."""
        for file in (self.config_file, self.weights_file, self.scores_file, self.pruning_file):
            self.verify(file)

    def _checksums(self) -> dict[str, Any]:
        sums = self.status().get("checksums")
        return dict(sums) if isinstance(sums, dict) else {}

    # --- results -------------------------------------------------------------------------------------------------

    def pruning_rows(self) -> list[dict[str, str]]:
        """The rows of pruning.csv, [] where there is none yet.

        Raises:
            DamagedRun: it is not what the last sweep wrote, or no text.
        """
        self.verify(self.pruning_file)
        return read_rows(self.pruning_file)

    def damaged_rows(self, error: Exception) -> DamagedRun:
        """The error that says what is wrong with pruning.csv, and how to get another."""
        again = f"delete it and run prune {self.folder} measures again, or run train … force=true starts over"
        return damaged(self.pruning_file, error, again)

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
            # Again, once: somebody may just be looking whether the folder is in use.
            for wait in (0.2, 0.0):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(wait)
            else:
                raise FolderInUse(f"{self.folder} is in use by another process; left as it is")
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
