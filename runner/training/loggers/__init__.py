"""Loggers: callbacks that tell somebody else how a run goes, and can't stop it. Chosen by `loggers=[jsonl]`.

Each is a class and a file in conf/logger. Whatever loggers there are, metrics.csv and pruning.csv are written.
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
    """A callback that is given the run and its configuration before the first step, also of a resumed training.

    Its first failure becomes one warning in the run's log, after which it is not called again. A constructor may
    raise: nothing has been written then. It is where a missing library is found, see `runner.extras.need`.
    """

    run: Run
    config: Mapping[str, Any]

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Called once, before `on_start`."""
        self.run, self.config = run, config

    def on_sweep(self, rows: Sequence[Mapping[str, str]], figure: Path) -> None:
        """After the sweep.

        Args:
            rows: of pruning.csv, as text.
            figure: pruning.png.
        """

    def close(self, finished: bool) -> None:
        """Called once, at the very end.

        Args:
            finished: False where the run failed or was interrupted.
        """


class JsonLines(Logger):
    """A line of JSON an epoch, the row of metrics.csv, in the run folder's events.jsonl.

    A resumed training appends: an epoch that was repeated stands there twice, the later line counts.
    """

    def on_epoch(self, training: "Training", row: Mapping[str, Any]) -> None:
        with self.run.events_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")


def run_id(run: Run) -> str:
    """What other programs know a run by: the same when it is resumed, another when it is trained again."""
    status = run.status()
    words = f"{status['hash']} {run.folder.resolve()} {status['started']}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def run_name(run: Run) -> str:
    """`digits-resnet32-targeted-0a1b2c3d/seed0`; the folder alone where it has a name of its own."""
    folder = run.folder.resolve()
    return f"{folder.parent.name}/{folder.name}" if folder.name.startswith("seed") else folder.name


def sweep_values(run: Run, rows: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, int, float]]:
    """The task's metrics over sparsity, for programs that draw numbers over whole steps.

    Yields:
        A name, `pruning/test/weight/own/kept/accuracy`; the sparsity asked for in thousandths; the value.
    """
    metrics = [metric["name"] for metric in run.status()["metrics"]]
    for row in rows:
        place = "/".join(row[part] for part in ("split", "granularity", "scores", "batch_norm"))
        for name in ("actual_sparsity", *metrics):
            if row.get(name):
                yield f"pruning/{place}/{name}", round(1000 * float(row["sparsity"])), float(row[name])
