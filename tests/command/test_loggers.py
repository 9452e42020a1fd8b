"""Loggers, the package's and a user's own."""

import fcntl
import json
import sqlite3
import sys
import threading

import pytest

from runner.files import read_rows
from runner.runs import Run

MODULE = """
from runner.training.loggers import Logger


class Mine(Logger):
    def __init__(self, fails_at):
        self.fails_at, self.steps = fails_at, 0

    def on_step(self, training):
        self.steps += 1
        if self.steps == self.fails_at:
            raise OSError("no connection")

    def on_epoch(self, training, row):
        (self.run.folder / "mine.txt").write_text(f"{self.config['seed']} {self.steps}")
"""


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "own files"
    (folder / "logger").mkdir(parents=True)
    (folder / "logger" / "mine.yaml").write_text("# mine\n_target_: my_logger.Mine\nfails_at: 0\n")
    (folder / "my_logger.py").write_text(MODULE)
    return folder


def test_rows_become_lines_and_the_run_is_the_same(train):
    plain, logged = train("outputs=out"), train("folder=logged", "loggers=[jsonl]")
    lines = [json.loads(line) for line in logged.events_file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [int(row["step"]) for row in read_rows(logged.metrics_file)]
    assert plain.weights_file.read_bytes() == logged.weights_file.read_bytes()
    assert plain.status()["hash"] == logged.status()["hash"]


def test_ones_own_is_told_of_steps_and_epochs(call, own, tiny, tmp_path):
    result = call("train", *tiny, "loggers=[mine,jsonl]", "seed=3", "folder=run", "--config-dir", str(own))
    assert result.code == 0, result.err
    assert (tmp_path / "run" / "mine.txt").read_text() == "3 4"
    assert Run(tmp_path / "run").events_file.exists()


def test_one_that_fails_is_one_warning_and_the_training_goes_on(call, own, tiny, tmp_path):
    result = call("train", *tiny, "loggers=[{mine:{fails_at:2}}]", "folder=run", "--config-dir", str(own))
    assert result.code == 0, result.err
    log = (tmp_path / "run" / "run.log").read_text()
    assert log.count("logger mine(fails_at=2) failed and is disabled: OSError: no connection") == 1
    assert not (tmp_path / "run" / "mine.txt").exists()
    assert Run(tmp_path / "run").state() == "finished"


def test_an_unknown_one_is_named(call, tiny, tmp_path):
    result = call("train", *tiny, "loggers=[jsnl]", "folder=run")
    assert result.code == 2
    assert "loggers=jsnl: unknown; did you mean jsonl?" in result.err
    assert not (tmp_path / "run").exists()


def test_tensorboard(train, drawn):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = train("folder=run", "loggers=[tensorboard]")
    assert "failed" not in run.log_file.read_text()
    events = accumulator.EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    rows = read_rows(run.metrics_file)
    swept = [row for row in read_rows(run.pruning_file) if row["granularity"] == "weight"]
    losses = events.Scalars("training/train_loss")
    assert [event.step for event in losses] == [int(row["step"]) for row in rows]
    assert [event.value for event in losses] == pytest.approx([float(row["train_loss"]) for row in rows])
    points = events.Scalars("pruning/test/weight/own/kept/accuracy")
    assert [event.step for event in points] == [0, 500]
    assert [event.value for event in points] == pytest.approx([float(row["accuracy"]) for row in swept])
    assert events.Images("pruning")
    (text,) = events.Tensors("configuration/text_summary")
    assert b"    dropout:" in text.tensor_proto.string_val[0]


def test_wandb(train, drawn, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    run = train("folder=run", "loggers=[wandb]")
    assert "failed" not in run.log_file.read_text()
    (file,) = run.folder.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()  # records of uncompressed protocol buffers
    for words in (b"training/train_loss", b"pruning/test/weight/own/kept/accuracy@0.5", b"pruning_figure", b"dropout"):
        assert words in content
    (table,) = run.folder.glob("wandb/offline-run-*/files/media/table/pruning*.json")
    rows = read_rows(run.pruning_file)
    stored = json.loads(table.read_text())
    accuracy = stored["columns"].index("accuracy")
    assert [row[accuracy] for row in stored["data"]] == [float(row["accuracy"]) for row in rows]


def test_mlflow(train, tmp_path):
    for package in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(package)
    run = train("outputs=out", "loggers=[mlflow]")
    assert "failed" not in run.log_file.read_text()
    with sqlite3.connect(tmp_path / "out" / "mlflow.db") as database:
        ask = lambda query: database.execute(query).fetchall()  # noqa: E731
        assert ask("select status from runs") == [("FINISHED",)]
        assert ("dropout.name", "none") in ask("select key, value from params")
        losses = ask("select step, value from metrics where key = 'training/train_loss' order by step")
        points = ask("select step from metrics where key = 'pruning/test/weight/own/kept/accuracy' order by step")
    rows = read_rows(run.metrics_file)
    assert losses == [(int(row["step"]), pytest.approx(float(row["train_loss"]))) for row in rows]
    assert points == [(0,), (500,)]
    assert {path.name for path in (tmp_path / "out" / "mlflow-artifacts").rglob("p*.*")} == {
        "pruning.csv",
        "pruning.png",
    }


def test_jobs_that_begin_together_make_one_database(tmp_path):
    """The second waits until the first has created it, because two concurrent MLflow migrations break each other."""
    for package in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(package)
    from runner.training.loggers.mlflow import MLflow

    run, config = Run(tmp_path / "run"), {"outputs": str(tmp_path), "seed": 0}
    run.folder.mkdir()
    run.write_status(hash="0a1b2c3d", started="2026-01-01")
    with (tmp_path / "mlflow.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = threading.Thread(target=MLflow().begin, args=(run, config))
        other.start()
        other.join(0.5)
        assert other.is_alive() and not (tmp_path / "mlflow.db").exists()
    other.join(60)
    assert not other.is_alive() and (tmp_path / "mlflow.db").exists()


STOPS = """
from runner.training.loggers import Logger


class Stops(Logger):
    def on_step(self, training):
        if training.step == 7:
            raise KeyboardInterrupt
"""


def test_an_interrupted_run_goes_on_where_its_loggers_were(call, own, longer, drawn, tmp_path):
    for package in ("mlflow", "sqlalchemy", "alembic", "tensorboard"):
        pytest.importorskip(package)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (own / "stops.py").write_text(STOPS)
    (own / "logger" / "stops.yaml").write_text("# stops\n_target_: stops.Stops\n")
    words = (*longer, "outputs=out", "folder=run", "--config-dir", str(own))
    assert call("train", *words, "loggers=[jsonl,tensorboard,mlflow,stops]").code == 130
    assert call("train", *words, "loggers=[jsonl,tensorboard,mlflow]").code == 0
    run = Run(tmp_path / "run")
    assert "failed" not in run.log_file.read_text()
    steps = [int(row["step"]) for row in read_rows(run.metrics_file)]
    assert len(steps) > 2 and steps[0] < 7
    assert [json.loads(line)["step"] for line in run.events_file.read_text().splitlines()] == steps
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("training/train_loss")] == steps
    with sqlite3.connect(tmp_path / "out" / "mlflow.db") as database:
        assert database.execute("select status from runs").fetchall() == [("FINISHED",)]
        query = "select step from metrics where key = 'training/train_loss' order by step"
        assert [step for (step,) in database.execute(query)] == steps


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("mlflow", "alembic")]
)
def test_a_missing_library_is_named_with_its_extra(call, tiny, tmp_path, monkeypatch, name, package):
    if name == "mlflow":
        monkeypatch.setitem(sys.modules, "mlflow", sys)
        monkeypatch.setitem(sys.modules, "sqlalchemy", sys)
    monkeypatch.setitem(sys.modules, package, None)
    result = call("train", *tiny, f"loggers=[{name}]", "folder=run")
    assert result.code == 2
    needs = f"loggers=[{name}] needs {package}, which is not installed: pip install '.[{name}]' in a checkout"
    assert result.err == f"run: {needs}\n"
    assert not (tmp_path / "run").exists()


def test_a_mode_that_does_not_exist(call, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", sys)
    result = call("train", *tiny, "loggers=[{wandb:{mode:of}}]", "folder=run")
    assert "loggers.mode=of: expected one of offline, online" in result.err


STAGES = """
from runner.training.loggers import Logger


class Mine(Logger):
    def __init__(self, stage):
        self.stage = stage

    def _at(self, stage):
        if stage == self.stage:
            raise OSError("no connection")

    def begin(self, run, config):
        self._at("begin")

    def on_sweep(self, rows, figure):
        self._at("sweep")

    def close(self, finished):
        self._at("close")
"""


@pytest.mark.parametrize("stage", ["begin", "sweep", "close"])
def test_one_that_fails_at_any_stage_stops_nothing(call, own, tiny, tmp_path, stage):
    (own / "stages.py").write_text(STAGES)
    (own / "logger" / "stages.yaml").write_text("# stages\n_target_: stages.Mine\nstage: begin\n")
    words = (f"loggers=[{{stages:{{stage:{stage}}}}}]", "folder=run", "--config-dir", str(own))
    result = call("train", *tiny, *words)
    assert result.code == 0, result.err
    assert (tmp_path / "run" / "run.log").read_text().count("failed and is disabled: OSError") == 1


def test_a_logger_is_told_of_the_sweep_and_how_it_ended(call, own, tiny, tmp_path):
    (own / "outcome.py").write_text(
        "from runner.training.loggers import Logger\n\n\n"
        "class Outcome(Logger):\n"
        "    def on_sweep(self, rows, figure):\n"
        "        self.rows = len(rows), figure.name\n\n"
        "    def close(self, finished):\n"
        "        (self.run.folder / 'outcome.txt').write_text(f'{self.rows} {finished}')\n"
    )
    (own / "logger" / "outcome.yaml").write_text("# outcome\n_target_: outcome.Outcome\n")
    assert call("train", *tiny, "loggers=[outcome]", "folder=run", "--config-dir", str(own)).code == 0
    assert (tmp_path / "run" / "outcome.txt").read_text() == "(4, 'pruning.png') True"
