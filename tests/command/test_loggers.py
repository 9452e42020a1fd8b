"""Loggers, the shipped one and a user's own."""

import json

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
    assert log.count("logger mine(fails_at=2) failed and is left out from now on: OSError: no connection") == 1
    assert not (tmp_path / "run" / "mine.txt").exists()
    assert Run(tmp_path / "run").state() == "finished"


def test_an_unknown_one_is_named(call, tiny, tmp_path):
    result = call("train", *tiny, "loggers=[jsnl]", "folder=run")
    assert result.code == 2
    assert "loggers=jsnl: unknown; did you mean jsonl?" in result.err
    assert not (tmp_path / "run").exists()
