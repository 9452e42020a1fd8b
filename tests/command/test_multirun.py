"""Sweeps: a job that fails does not affect the others, and repeating a sweep runs only what is missing."""

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from runner.runs import Run, find_runs

ONE_FAILS = ("schedule.learning_rate=0.01,1e30,0.02",)


def by_rate(folder: Path) -> dict[float, Run]:
    return {run.config()["schedule"]["learning_rate"]: run for run in find_runs([folder])}


def test_runs_every_combination(call, tiny, tmp_path):
    result = call("train", "-m", *tiny, "dropout=none,targeted", "seed=0,1", "outputs=out")
    assert result.code == 0
    assert result.err == ""
    runs = find_runs([tmp_path / "out"])
    assert {(run.config()["dropout"]["name"], run.config()["seed"]) for run in runs} == {
        ("none", 0),
        ("none", 1),
        ("targeted", 0),
        ("targeted", 1),
    }
    assert all(run.state() == "finished" for run in runs)
    starts = [line for line in result.out.splitlines() if line.startswith("[")]
    assert [line.split()[0] for line in starts] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert "dropout=none seed=1" in starts[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"], "Hydra leaves nothing behind"


def test_a_job_is_the_run_that_the_command_alone_makes(call, train, tiny, tmp_path):
    assert call("train", "-m", *tiny, "dropout=none,targeted", "outputs=out").code == 0
    alone = train("dropout=targeted", "outputs=alone")
    job = Run(tmp_path / "out" / alone.folder.relative_to("alone"))
    assert job.weights_file.read_bytes() == alone.weights_file.read_bytes()
    assert job.pruning_file.read_text() == alone.pruning_file.read_text()


def test_the_others_finish_and_failures_are_listed(call, tiny, tmp_path):
    result = call("train", "-m", *tiny, *ONE_FAILS, "outputs=out")
    assert result.code == 1
    runs = by_rate(tmp_path / "out")
    assert {rate: run.state() for rate, run in runs.items()} == {0.01: "finished", 1e30: "failed", 0.02: "finished"}
    failed = runs[1e30]
    last = result.err.splitlines()[-2:]
    assert last[0] == "1 of 3 jobs are not finished:"
    assert last[1].split()[:2] == ["failed", str(failed.folder.relative_to(tmp_path))]
    assert "loss is not finite" in last[1]
    assert "loss is not finite" in failed.status()["error"]
    assert "loss is not finite" in failed.log_file.read_text()
    assert "Traceback" not in result.err


def test_a_job_that_breaks_in_an_unforeseen_way_is_its_own_failure_too(call, tiny, tmp_path, monkeypatch):
    from runner.training.loop import Training

    fit, calls = Training.fit, iter([False, True])

    def breaks(self, *arguments):
        if not next(calls):
            raise ZeroDivisionError("of all things")
        fit(self, *arguments)

    monkeypatch.setattr(Training, "fit", breaks)
    result = call("train", "-m", *tiny, "seed=0,1", "outputs=out")
    assert result.code == 1
    first, second = find_runs([tmp_path / "out"])
    assert (first.state(), second.state()) == ("failed", "finished")
    assert first.status()["error"] == "ZeroDivisionError: of all things"
    assert "Traceback" in first.log_file.read_text(), "the log keeps what the terminal doesn't show"
    assert "Traceback" not in result.err


def test_repeating_runs_only_what_is_missing(call, tiny, tmp_path, tree):
    words = ("train", "-m", *tiny, "seed=0,1,2", "outputs=out")
    assert call(*words).code == 0
    first, second, third = find_runs([tmp_path / "out"])
    shutil.rmtree(second.folder)
    third.write_status(state="running", trained=False)
    before = tree(first.folder)
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    assert call(*words).code == 0
    assert second.state() == third.state() == "finished"
    assert third.status()["resumed"] is not None
    assert second.status()["resumed"] is None
    assert tree(first.folder) == before
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")} == stamps


def test_one_job_with_the_flag(call, tiny, tmp_path):
    assert call("train", *tiny, "--multirun", "folder=x").code == 0
    assert Run(tmp_path / "x").state() == "finished"


def test_a_damaged_run_does_not_stop_the_others(call, tiny, tmp_path):
    words = ("train", "-m", *tiny, "seed=0,1", "outputs=out")
    assert call(*words).code == 0
    first, second = find_runs([tmp_path / "out"])
    first.status_file.write_text("{")
    shutil.rmtree(second.folder)
    result = call(*words)
    assert result.code == 1
    assert second.state() == "finished"
    assert f"{first.status_file.relative_to(tmp_path)} is damaged" in result.err
    assert result.err.splitlines()[-1].split()[0] == "damaged"


def test_a_finished_job_that_is_damaged_is_no_success(call, tiny, tmp_path):
    words = ("train", "-m", *tiny, "seed=0,1", "outputs=out")
    assert call(*words).code == 0
    first, second = find_runs([tmp_path / "out"])
    first.weights_file.write_bytes(first.weights_file.read_bytes()[:-1] + b"x")
    second.pruning_file.write_text("granularity\n")
    result = call(*words)
    assert result.code == 1
    lines = result.err.splitlines()[-3:]
    assert lines[0] == "2 of 2 jobs are not finished:"
    for line, file in zip(lines[1:], (first.weights_file, second.pruning_file), strict=True):
        assert line.split()[0] == "damaged"
        assert f"{file.relative_to(tmp_path)} is damaged" in line


PARALLEL = ("hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "outputs=out")


@pytest.mark.slow
def test_in_parallel(start, tiny, tmp_path, tmp_path_factory):
    """Each worker has its share of the cores when it imports torch. Failures are stored and listed."""
    files = tmp_path_factory.mktemp("said")
    words = ("train", "-m", *tiny, *ONE_FAILS, *PARALLEL)
    environment = {"OMP_NUM_THREADS": "", "MKL_NUM_THREADS": ""}
    process = start(*words, folder=tmp_path, out=files / "out", errors=files / "err", environment=environment)
    process.join()
    assert process.exitcode == 1
    out, err = (files / "out").read_text(), (files / "err").read_text()
    runs = by_rate(tmp_path / "out")
    assert {rate: run.state() for rate, run in runs.items()} == {0.01: "finished", 1e30: "failed", 0.02: "finished"}
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert [run.status()["threads"] for run in runs.values()] == [share] * 3
    assert "loss is not finite" in runs[1e30].log_file.read_text()
    assert runs[0.01].status()["command"].endswith("schedule.learning_rate=0.01 outputs=out")
    assert "1 of 3 jobs are not finished:" in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "Hydra leaves nothing behind"

    first, *ends, empty, summary, other = out.splitlines()
    assert first == "3 runs, 2 at a time; one line for each when it ends"
    assert [line.split()[0] for line in ends] == ["[1/3]", "[2/3]", "[3/3]"]
    assert {" ".join(line.split()[1:3]) for line in ends} == {
        "finished schedule.learning_rate=0.01",
        "failed schedule.learning_rate=1e+30",
        "finished schedule.learning_rate=0.02",
    }
    assert not empty
    for line in (summary, other):
        assert line.startswith("finished ") and "accuracy at sparsity" in line


@pytest.mark.slow
def test_interrupted_again_and_again_in_parallel(begin, tiny, tmp_path):
    """Any number of Ctrl-C gives one line of output. The workers end with their parent and leave nothing behind."""
    small = [word for word in tiny if not word.startswith("model.")]
    words = ["train", "-m", *small, "model=mlp", "schedule.length=100000it", "seed=0,1,2", *PARALLEL]
    process = begin(*words, new_session=True)
    try:
        while len(list((tmp_path / "out").rglob("metrics.csv"))) < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            for _ in range(5):  # to all processes of the terminal, as a terminal sends it
                os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=200)
    finally:  # no training may outlive a test that ends early
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert err == "\nrun: interrupted; the same command continues with the missing runs\n"
    assert process.returncode == 130
    assert {run.state() for run in find_runs([tmp_path / "out"])} == {"interrupted"}
