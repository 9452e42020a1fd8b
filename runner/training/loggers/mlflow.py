"""The MLflow logger, `loggers=[mlflow]`."""

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.rules import leaves
from runner.extras import need
from runner.run_folder import Run
from runner.training.loggers import Logger, run_id, run_name, sweep_values

if TYPE_CHECKING:
    from runner.training.loop import Training

_LONGEST_VALUE = 500  # maximum number of characters of a parameter; longer ones are truncated


class MLflow(Logger):
    """Log to a run of an MLflow experiment. To view it: `mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db`.

    The configuration is logged as parameters, training metrics over steps, and metrics of the sweep over the sparsity
    in thousandths. pruning.csv, its figure and the configuration are logged as artifacts. Resuming a training run
    continues its MLflow run.

    Args:
        experiment: name of the experiment.
        uri: tracking URI. With None, runs are stored in mlflow.db in the folder given by `outputs`, and the artifacts
            of new experiments in mlflow-artifacts beside it.

    Raises:
        ConfigError: MLflow is not installed.
    """

    def __init__(self, experiment: str = "run", uri: str | None = None) -> None:
        self.experiment, self.uri = experiment, uri
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reports its usage by default
        for package in ("mlflow", "sqlalchemy", "alembic"):
            need("loggers=[mlflow]", package, extra="mlflow")

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        super().begin(run, config)
        from mlflow import MlflowClient

        uri, artifacts = self.uri, None
        if uri is None:
            folder = Path(config["outputs"]).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            uri, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "mlflow-artifacts").as_uri()
        for name in ("alembic", "mlflow.store.db.utils"):  # they log a dozen lines about a new database
            logging.getLogger(name).setLevel(logging.WARNING)
        with nullcontext() if artifacts is None else _one_at_a_time(folder):
            client: Any = MlflowClient(tracking_uri=uri)
            found = client.get_experiment_by_name(self.experiment)
            number = found.experiment_id if found else client.create_experiment(self.experiment, artifacts)
        identity = run_id(run)
        begun = client.search_runs([number], f"tags.run_id = '{identity}'")
        if begun:
            self._id = begun[0].info.run_id
            client.update_run(self._id, status="RUNNING")
        else:
            tags = {"run_id": identity, "folder": str(run.folder.resolve())}
            self._id = client.create_run(number, tags=tags, run_name=run_name(run)).info.run_id
        self._client = client  # from here on a failure also ends the MLflow run
        for option, value in leaves(config) if not begun else ():
            client.log_param(self._id, option, str(value)[:_LONGEST_VALUE])

    def on_epoch(self, training: "Training", row: Mapping[str, Any]) -> None:
        self._log([(f"training/{name}", training.step, float(value)) for name, value in row.items()])

    def on_sweep(self, rows: Sequence[Mapping[str, str]], figure: Path) -> None:
        self._log(list(sweep_values(self.run, rows)))
        for file in (self.run.pruning_file, figure, self.run.config_file):
            self._client.log_artifact(self._id, str(file))

    def close(self, finished: bool) -> None:
        if hasattr(self, "_client"):
            self._client.set_terminated(self._id, "FINISHED" if finished else "FAILED")

    def _log(self, values: Sequence[tuple[str, int, float]]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        # MLflow does not allow parentheses in names, which granularities with parameters have.
        metrics = [Metric(re.sub(r"[^\w\-./ ]", "_", name), value, now, step) for name, step, value in values]
        for start in range(0, len(metrics), 1000):  # the limit of one batch
            self._client.log_batch(self._id, metrics=metrics[start : start + 1000])


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let concurrent jobs open the database one at a time, since concurrent migrations by MLflow conflict."""
    with (folder / "mlflow.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
