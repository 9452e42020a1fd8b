"""The run folder: status, configuration, files, lock."""

import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from runner.errors import ConfigError, DamagedRun, FolderInUse, UserError
from runner.running import _outcome_of
from runner.runs import (
    Run,
    cut_metrics,
    find_runs,
    metrics_columns,
    point_key,
    pruning_columns,
    read_rows,
    write_rows,
)

CONFIG = {"dropout": {"name": "none", "rates": [0.5, 1]}, "seed": 0, "folder": None}

HOLD = """
import sys
from pathlib import Path
from runner.runs import Run
with Run(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "run")


# --- status and configuration ----------------------------------------------------------------------------------------


def test_status_is_merged(run):
    assert run.status() == {} and run.state() == ""
    run.folder.mkdir()
    run.write_status(state="finished", a=1)
    run.write_status(a=2)
    assert run.status() == {"state": "finished", "a": 2}
    assert run.state() == "finished"


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b"3", b"\xff"])
def test_a_damaged_status_is_named(content, run):
    run.folder.mkdir()
    run.status_file.write_bytes(content)
    with pytest.raises(DamagedRun, match=r"status\.json is damaged .*force=true starts over"):
        run.state()


def test_running_without_a_lock_is_interrupted(run):
    with run.locked():
        run.write_status(state="running")
        assert run.state() == "running"
    assert run.state() == "interrupted"


@pytest.mark.parametrize(("threads", "used"), [(2, 2), (None, None), ("2", None), (0, None), (True, None), (1e9, None)])
def test_threads_that_can_be_meant(threads, used, run):
    run.folder.mkdir()
    run.write_status(threads=threads)
    assert run.threads() == used


def test_configuration_comes_back(run):
    run.folder.mkdir()
    run.write_config(CONFIG, ["dropout=targeted", "x=γ"])
    assert CONFIG.items() <= run.config().items()
    assert "γ" in run.overrides_file.read_text()


@pytest.mark.parametrize(
    "content",
    [b"a: [1", b"- 1\n", b"", b"\xff\xfe", b"!!python/object/apply:os.getcwd []\n", b"a: !!python/name:os.system\n"],
)
def test_a_damaged_configuration_is_named(content, run):
    run.config_file.parent.mkdir(parents=True)
    run.config_file.write_bytes(content)
    with pytest.raises(DamagedRun, match=r"config\.yaml is damaged"):
        run.config()


def test_a_run_from_before_there_were_regularizers_has_none(run):
    run.config_file.parent.mkdir(parents=True, exist_ok=True)
    run.config_file.write_text("dropout: {name: none}\n")
    assert run.config()["regularizer"]["name"] == "none"


def test_interpolations_stay_text(run, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    run.config_file.parent.mkdir(parents=True)
    run.config_file.write_text("a: ${oc.env:SECRET}\n")
    assert run.config() == {"a": "${oc.env:SECRET}"}


def test_no_configuration_is_no_run(run):
    with pytest.raises(UserError, match=r"is not a run folder: it has no \.hydra/config\.yaml"):
        run.config()


# --- content of the folder -------------------------------------------------------------------------------------------


def test_clear_deletes_what_a_run_writes_and_nothing_else(run):
    run.folder.mkdir()
    for path in (run.metrics_file, run.weights_file, run.checkpoint_file, run.folder / "notes.txt"):
        path.write_text("x")
    run.write_status(state="failed")
    run.write_config(CONFIG, [])
    with run.locked():
        run.clear()
    assert {path.name for path in run.folder.iterdir()} == {"notes.txt", ".lock"}


def test_somebody_elses_files_are_told_from_a_runs(run):
    assert run.not_ours() == []
    run.folder.mkdir()
    run.log_file.touch()  # all that a run killed at its start leaves, besides its lock
    run.lock_file.touch()
    assert run.not_ours() == []
    run.metrics_file.write_text("x")
    run.config_file.parent.mkdir()
    (run.folder / "tensorboard").mkdir()
    (run.folder / "compact").mkdir()
    assert sorted(run.not_ours()) == [".hydra", "compact", "metrics.csv", "tensorboard"]
    run.write_status(state="running")
    assert run.not_ours() == []


def test_metrics_are_cut_back_to_a_step(run):
    run.folder.mkdir()
    columns = ["epoch", "step"]
    cut_metrics(run, columns, 5)
    assert not run.metrics_file.exists()
    write_rows(run.metrics_file, columns, [{"epoch": number, "step": 3 * number} for number in (1, 2, 3)])
    cut_metrics(run, columns, 6)
    assert [row["step"] for row in read_rows(run.metrics_file)] == ["3", "6"]
    cut_metrics(run, columns, 0)
    assert not run.metrics_file.exists(), "so that the header is written with the first row"


def test_columns_and_keys():
    assert metrics_columns(["accuracy"])[-2:] == ["examples_per_second", "seconds"]
    assert {"train_loss", "train_accuracy", "validation_loss", "validation_accuracy"} <= set(
        metrics_columns(["accuracy"])
    )
    row = {name: name for name in pruning_columns(["accuracy"])}
    assert point_key(row) == ("granularity", "scope", "scores", "floor", "batch_norm", "sparsity", "split")
    assert point_key({**row, "sparsity": 0.5}) == point_key({**row, "sparsity": "0.5"})


def test_runs_are_found_at_any_depth_once_and_sorted(tmp_path):
    for name in ("b", "a/c", "a"):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra" / "config.yaml").touch()
    found = find_runs([tmp_path, tmp_path / "b"])
    assert [str(run.folder.relative_to(tmp_path)) for run in found] == ["a", "a/c", "b"]


def test_folders_without_runs_are_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere is not a folder"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(ConfigError, match="is not a run folder and contains none"):
        find_runs([tmp_path])


# --- lock ------------------------------------------------------------------------------------------------------------


def test_another_processes_lock_is_seen_and_respected(run):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, run.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        assert run.in_use()
        with pytest.raises(FolderInUse, match="is in use by another process"), run.locked():
            pass
    finally:
        holder.kill()  # the lock is released with the process, however it ends
        holder.communicate()
    assert not run.in_use()
    with run.locked():
        assert run.in_use()


def test_looking_whether_it_is_in_use_disturbs_nobody(run, monkeypatch):
    """Checking takes the lock for a moment."""
    import fcntl

    run.folder.mkdir()
    with run.lock_file.open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr("runner.run_folder.time.sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
        with run.locked():
            pass


def test_no_folder_is_not_in_use_and_is_not_made(run):
    assert not run.in_use()
    assert not run.folder.exists()


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"can't write into .*file/run: Not a directory"),
        Run(tmp_path / "file/run").locked(),
    ):
        pass


def test_status_is_json_that_people_can_read(run):
    run.folder.mkdir()
    run.write_status(state="finished", examples={"train": 3})
    text = run.status_file.read_text()
    assert json.loads(text) == run.status()
    assert len(text.splitlines()) > 3 and text.endswith("\n")


def test_a_file_system_without_locks_is_one_clear_line(run, monkeypatch):
    def flock(handle, how):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"run: its file system has no locks \(flock: Function not implemented\)"):
        run.locked().__enter__()
    assert not run.in_use()


@pytest.mark.parametrize(("before", "after"), [("running", "failed"), ("finished", "finished")])
def test_a_further_sweep_that_fails_takes_nothing_away(run, before, after):
    run.folder.mkdir()
    run.write_status(state=before)
    with pytest.raises(UserError, match="not with weights"), _outcome_of(run):
        raise UserError("not with weights")
    assert run.status()["state"] == after
