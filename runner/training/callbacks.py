"""Callbacks of the training loop: metrics.csv, checkpoints, the progress bar and the check that the loss is finite.

The loop calls its callbacks in the order in which they are listed. Exact resumption depends on this order: first the
row is written, then the checkpoint, and then loggers are called.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import runs
from runner.errors import UserError
from runner.files import append_row
from runner.runs import Run
from runner.training import checkpoint
from runner.training.progress import Progress

if TYPE_CHECKING:
    from runner.training.loggers import Logger
    from runner.training.loop import Training

log = logging.getLogger("runner")

# A GPU runs asynchronously; reading a number at every step would stall it.
STEPS_BETWEEN_READS = {"cpu": 1, "mps": 20, "cuda": 20}


class Callback:
    """Base class of callbacks. Every method does nothing by default.

    Values read from `training` are tensors on `training.device`. Converting one to a number waits for the device,
    so do that in `on_epoch` or only at some steps.
    """

    @property
    def key(self) -> str:
        """The name of the callback's state in a checkpoint."""
        return type(self).__name__

    def on_start(self, training: "Training") -> None:
        """Called before the first step of a new or resumed training run."""

    def on_step(self, training: "Training") -> None:
        """Called after every step; `training.step` is the number of completed steps."""

    def on_epoch(self, training: "Training", row: Mapping[str, Any]) -> None:
        """Called after the last step of every epoch and of the training run.

        Args:
            row: the values of the epoch's row in metrics.csv, by column.
        """

    def on_end(self, training: "Training") -> None:
        """Called after training, even if it failed or was interrupted."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that is needed to resume training, as plain values and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""


class FiniteLoss(Callback):
    """Stop training when the loss is no longer finite."""

    def on_step(self, training: "Training") -> None:
        every = STEPS_BETWEEN_READS.get(training.device.type, 20)
        if training.ends_epoch or training.step % every == 0:
            training.check_finite()

    def on_epoch(self, training: "Training", row: Mapping[str, Any]) -> None:
        if "validation_loss" in row and not math.isfinite(
            row["validation_loss"]
        ):  # the last step can spoil the weights
            raise not_finite("validation loss", row["validation_loss"], training.step, training.steps)


class ProgressBar(Callback):
    """Show a progress bar on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._open = ExitStack()

    def on_start(self, training: "Training") -> None:
        sizes = (training.steps, training.step, training.batches.steps_per_epoch, training.examples_per_step)
        self._bar = self._open.enter_context(self.progress.training(*sizes))

    def on_step(self, training: "Training") -> None:
        reads = training.step % STEPS_BETWEEN_READS.get(training.device.type, 20) == 0 or training.ends_epoch
        self._bar.advance(training.examples, training.averages if reads else None)

    def on_end(self, training: "Training") -> None:
        self._open.close()


class MetricsFile(Callback):
    """Write one row per epoch to the run's metrics.csv and one line to its log."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_start(self, training: "Training") -> None:
        self._columns = runs.metrics_columns(training.task.metrics)
        # Rows that were written after the checkpoint will be written again.
        runs.cut_metrics(self.run, self._columns, training.step)

    def on_epoch(self, training: "Training", row: Mapping[str, Any]) -> None:
        append_row(self.run.metrics_file, self._columns, row)
        log.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in row.items()))


class Checkpoint(Callback):
    """Write the run's checkpoint at the end of every epoch, and every `seconds` seconds within an epoch."""

    def __init__(self, run: Run, seconds: float = 180.0) -> None:
        self.run, self.seconds = run, seconds

    def on_start(self, training: "Training") -> None:
        self._saved = time.monotonic()

    def on_step(self, training: "Training") -> None:
        if not training.ends_epoch and time.monotonic() - self._saved >= self.seconds:
            training.check_finite()
            self._save(training)

    def on_epoch(self, training: "Training", row: Mapping[str, Any]) -> None:
        self._save(training)

    def _save(self, training: "Training") -> None:
        checkpoint.save(self.run.checkpoint_file, training.state_dict())
        self._saved = time.monotonic()


class Guarded(Callback):
    """Wrap a logger so that its errors can't stop training.

    Its first failure becomes a warning, after which it is not called again.
    """

    def __init__(self, logger: "Logger", name: str) -> None:
        self.logger, self.name, self.failed = logger, name, False

    @property
    def key(self) -> str:
        return f"logger {self.name}"

    def _call(self, method: str, *arguments: Any) -> Any:
        if self.failed:
            return None
        try:
            return getattr(self.logger, method)(*arguments)
        except Exception as error:
            self.failed = True
            log.warning("logger %s failed and is disabled: %s: %s", self.name, type(error).__name__, error)

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        self._call("begin", run, config)

    def on_sweep(self, rows: Sequence[Mapping[str, str]], figure: Path) -> None:
        self._call("on_sweep", rows, figure)

    def close(self, finished: bool) -> None:
        self._call("close", finished)

    def on_start(self, training: "Training") -> None:
        self._call("on_start", training)

    def on_step(self, training: "Training") -> None:
        self._call("on_step", training)

    def on_epoch(self, training: "Training", row: Mapping[str, Any]) -> None:
        self._call("on_epoch", training, row)

    def on_end(self, training: "Training") -> None:
        self._call("on_end", training)

    def state_dict(self) -> dict[str, Any]:
        return self._call("state_dict") or {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._call("load_state_dict", state)


def not_finite(name: str, value: float, step: int, steps: int) -> UserError:
    """Return the error to raise when training has diverged."""
    return UserError(
        f"the {name} is not finite ({value}) at step {step} of {steps}; "
        "a smaller schedule.learning_rate or a schedule.clip_norm may help"
    )
