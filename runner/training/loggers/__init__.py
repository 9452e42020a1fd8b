"""Loggers: callbacks that report a run to other programs and can't stop it. They are chosen with `loggers=[…]`.

Each logger is a class and a file in conf/logger. metrics.csv and pruning.csv are written regardless of the loggers.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.runs import Run
from runner.training.callbacks import Callback

if TYPE_CHECKING:
    from runner.training.loop import Training


class Logger(Callback):
    """A callback that receives the run and its configuration before the first step of a new or resumed training run.

    Its first failure becomes a warning in the run's log, after which it is not called again. The constructor may raise
    an error, as nothing has been written yet; it should check for missing libraries, see `runner.extras.need`.
    """

    run: Run
    config: Mapping[str, Any]

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Called once, before `on_start`."""
        self.run, self.config = run, config

    def on_sweep(self, rows: Sequence[Mapping[str, str]], figure: Path) -> None:
        """Called after the sweep.

        Args:
            rows: the rows of pruning.csv, as text.
            figure: the path of pruning.png.
        """

    def close(self, finished: bool) -> None:
        """Called once at the end of the run.

        Args:
            finished: False if the run failed or was interrupted.
        """


class JsonLines(Logger):
    """Write each row of metrics.csv as a line of JSON to the run folder's events.jsonl.

    Resuming a run appends lines. If an epoch was repeated, its last line is the valid one.
    """

    def on_epoch(self, training: "Training", row: Mapping[str, Any]) -> None:
        with self.run.events_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")


def run_id(run: Run) -> str:
    """Return the run's id for other programs.

    The id stays the same if the run is resumed, but not if it is trained again.
    """
    status = run.status()
    words = f"{status['hash']} {run.folder.resolve()} {status['started']}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def run_name(run: Run) -> str:
    """Return a name such as `digits-resnet32-targeted-0a1b2c3d/seed0`, or the folder's name if the user chose it."""
    folder = run.folder.resolve()
    return f"{folder.parent.name}/{folder.name}" if folder.name.startswith("seed") else folder.name


def sweep_values(run: Run, rows: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, int, float]]:
    """Yield the task's metrics over sparsity, for programs that plot values over integer steps.

    Yields:
        A name such as `pruning/test/weight/own/kept/accuracy`, the requested sparsity in thousandths, and the value.
    """
    metrics = [metric["name"] for metric in run.status()["metrics"]]
    for row in rows:
        place = "/".join(row[part] for part in ("split", "granularity", "scores", "batch_norm"))
        for name in ("actual_sparsity", *metrics):
            if row.get(name):
                yield f"pruning/{place}/{name}", round(1000 * float(row["sparsity"])), float(row[name])
