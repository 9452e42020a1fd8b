"""A loss that is not finite stops the run with a message, and keeps what was written."""

import math

import pytest

from runner.files import read_rows
from runner.runs import Run

# Each step makes the weights about fifty times as large, with the opposite sign.
EXPLODING = (
    *("debug=smoke", "model.blocks=1", "precision=float32", "schedule.length=18it", "schedule.batch_size=400"),
    *("schedule.weight_decay=100", "schedule.momentum=0", "schedule.nesterov=false", "schedule.warmup=0"),
    "schedule.learning_rate=0.5",
)


@pytest.fixture
def exploded(call, tmp_path):
    """Return the run folder and the result of the command."""
    result = call("train", *EXPLODING, "folder=run")
    return Run(tmp_path / "run"), result


def test_says_what_happened_and_what_may_help(exploded):
    _, result = exploded
    assert result.code == 1
    assert result.out == ""
    assert result.err.startswith("run: the ")
    assert "loss is not finite" in result.err
    assert "schedule.learning_rate" in result.err
    assert len(result.err.splitlines()) == 1


def test_keeps_status_log_and_the_epochs_before(exploded):
    run, result = exploded
    status = run.status()
    assert (status["state"], status["trained"]) == ("failed", False)
    assert status["error"] == "UserError: " + result.err.removeprefix("run: ").strip()
    assert "loss is not finite" in run.log_file.read_text()
    rows = read_rows(run.metrics_file)
    assert [row["epoch"] for row in rows] == ["1"]
    assert all(math.isfinite(float(value)) for value in rows[0].values())
    assert run.checkpoint_file.exists()
    assert not run.weights_file.exists()


def test_the_same_command_fails_again_without_loss(exploded, call):
    run, first = exploded
    rows = read_rows(run.metrics_file)
    again = call("train", *EXPLODING, "folder=run")
    assert (again.code, again.err) == (first.code, first.err)
    assert read_rows(run.metrics_file) == rows
    assert run.state() == "failed"


def test_another_rate_is_another_run_and_force_takes_the_folder(exploded, call):
    run, _ = exploded
    words = ("train", *EXPLODING, "folder=run", "schedule.weight_decay=0", "schedule.learning_rate=0.01")
    refused = call(*words)
    assert refused.code == 2
    assert "another configuration" in refused.err
    assert call(*words, "force=true").code == 0
    assert run.state() == "finished"
    assert run.status()["error"] is None
    assert len(read_rows(run.metrics_file)) == 6


def test_weights_spoiled_by_the_last_step_are_no_result(call, tmp_path, tiny):
    result = call("train", *tiny, "schedule.length=1it", "schedule.learning_rate=1e30", "folder=run")
    assert result.code == 1
    assert "the validation loss is not finite" in result.err
    assert Run(tmp_path / "run").state() == "failed"
    assert read_rows(tmp_path / "run" / "metrics.csv") == []


def test_without_validation_it_is_seen_at_the_next_step(call, tmp_path, tiny):
    words = ("data.validation=0", "schedule.learning_rate=1e30", "folder=run")
    result = call("train", *tiny, *words)
    assert result.code == 1
    assert "run: the loss is not finite (nan) at step " in result.err
    assert Run(tmp_path / "run").state() == "failed"


def test_run_list_tells_it(exploded, call):
    assert "failed       run  UserError: the " in call("list", "runs", "run").out
