"""Loggers: callbacks that tell somebody else how a training goes, and can't stop it. Chosen by `loggers=[jsonl]`."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner.runs import Run
from runner.training.callbacks import Callback

if TYPE_CHECKING:
    from runner.training.loop import Training


class Logger(Callback):
    """A callback that is given the run and its configuration before the first step, also of a resumed training.

    Its first failure becomes one warning in the run's log, after which it is not called again.
    """

    run: Run
    config: Mapping[str, Any]

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Called once, before `on_start`."""
        self.run, self.config = run, config


class JsonLines(Logger):
    """A line of JSON an epoch, the row of metrics.csv, in the run folder's events.jsonl.

    A resumed training appends: an epoch that was repeated stands there twice, the later line counts.
    """

    def on_epoch(self, training: "Training", row: Mapping[str, Any]) -> None:
        with self.run.events_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")
