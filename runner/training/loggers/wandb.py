"""The Weights & Biases logger, `loggers=[wandb]`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import ParameterError
from runner.extras import need
from runner.run_folder import Run
from runner.training.loggers import Logger, run_id, run_name, sweep_values

if TYPE_CHECKING:
    from runner.training.loop import Training


class WeightsAndBiases(Logger):
    """Log to a Weights & Biases run, stored in the run folder's wandb/.

    To upload an offline run: `wandb sync FOLDER/wandb/offline-run-*`.

    It logs the configuration, training metrics over steps, and the sweep as a table, a figure and summary values.
    Resuming a training run in offline mode writes a second offline run with the same id.

    Args:
        project: name of the project.
        mode: "offline", which needs no account and no network, or "online".

    Raises:
        ConfigError: wandb is not installed.
        ParameterError: the mode is unknown.
    """

    def __init__(self, project: str = "run", mode: str = "offline") -> None:
        self.project, self.mode = project, mode
        if mode not in ("offline", "online"):
            raise ParameterError("mode", mode, "one of offline, online")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # wandb reports errors to its developers by default
        self._wandb: Any = need("loggers=[wandb]", "wandb")

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        super().begin(run, config)
        identity = run_id(run)
        self._run = self._wandb.init(
            project=self.project,
            mode=self.mode,
            dir=str(run.folder),
            id=identity,
            resume="allow" if self.mode == "online" else None,
            name=run_name(run),
            config=dict(config),
            # Log only what is passed explicitly: no terminal output, no code, no system metrics.
            settings=self._wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True
            ),
        )

    def on_epoch(self, training: "Training", row: Mapping[str, Any]) -> None:
        self._run.log({f"training/{name}": value for name, value in row.items()}, step=training.step)

    def on_sweep(self, rows: Sequence[Mapping[str, str]], figure: Path) -> None:
        columns = list(rows[0])
        table = self._wandb.Table(columns=columns, data=[[_value(row[name]) for name in columns] for row in rows])
        self._run.log({"pruning": table, "pruning_figure": self._wandb.Image(str(figure))})
        for name, thousandths, value in sweep_values(self.run, rows):
            self._run.summary[f"{name}@{thousandths / 1000:g}"] = value

    def close(self, finished: bool) -> None:
        if hasattr(self, "_run"):
            self._run.finish(exit_code=0 if finished else 1)


def _value(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text
