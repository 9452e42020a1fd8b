"""hydra/launcher=slurm: array jobs of submitit, here executed by its local executor or written for an sbatch that only
keeps them."""

import os
import signal
import stat
import time
from pathlib import Path

import pytest

from runner import cluster
from runner.cluster import Work, submit
from runner.config.compose import Composer
from runner.runs import Run, find_runs

submitit = pytest.importorskip("submitit")

LOCAL = ("hydra/launcher=slurm", "hydra.launcher.cluster=local", "outputs=out")
FAKE = """#!/bin/sh
case "$(basename "$0")" in sbatch) cp "$1" "$KEPT"; echo "Submitted batch job 42";; esac
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(cluster, "_POLL", 0.1)


@pytest.fixture
def sbatch(tmp_path, monkeypatch) -> Path:
    """Puts commands of Slurm on the PATH that do nothing; the script that sbatch was given."""
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "srun", "sacct", "scontrol"):
        file = tmp_path / "bin" / name
        file.write_text(FAKE)
        file.chmod(file.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("KEPT", str(tmp_path / "script.sh"))
    return tmp_path / "script.sh"


@pytest.mark.slow
def test_what_is_missing_is_trained_and_failures_are_listed(call, tiny, tmp_path):
    words = ("train", "-m", *tiny, "schedule.learning_rate=0.01,1e30", *LOCAL)
    assert call("train", *tiny, "schedule.learning_rate=0.01", "outputs=out").code == 0
    result = call(*words)
    assert result.code == 1
    lines = result.out.splitlines()
    assert lines[0] == "1 of 2 runs are missing"
    assert lines[1].startswith("submitted as job ") and lines[1].endswith(f"logs: {tmp_path / 'out' / 'slurm'}")
    assert lines[2] == "[1/1] failed    schedule.learning_rate=1e+30"
    assert "1 of 2 jobs are not finished:" in result.err and "loss is not finite" in result.err
    assert {run.state() for run in find_runs([tmp_path / "out"])} == {"finished", "failed"}
    assert find_runs([tmp_path / "out"])[0].status()["command"].startswith("run train ")
    result = call("train", "-m", *tiny, "schedule.learning_rate=0.01", "note=again", *LOCAL)
    assert (result.code, result.out.splitlines()[0]) == (0, "0 of 1 runs are missing")
    assert "note: again" in result.out


@pytest.mark.slow
def test_a_job_that_is_told_to_stop_is_requeued_and_goes_on(tiny, tmp_path, monkeypatch):
    """As at the end of its time: submitit's signal, its requeueing, and a second start from the checkpoint."""
    monkeypatch.chdir(tmp_path)
    words = [word for word in tiny if "blocks" not in word]
    words += ["model=lenet", "schedule.length=400it", "folder=run"]  # five epochs
    job = Composer("train").single(words)
    options = {**options_of_file(), "cluster": "local"}
    (submitted,) = submit(Work(tmp_path, None), [(job, words)], options, tmp_path / "slurm")
    run, task = Run(tmp_path / "run"), 0
    try:
        deadline = time.monotonic() + 200
        while not run.checkpoint_file.exists():
            assert time.monotonic() < deadline, submitted.stderr()
            time.sleep(0.02)
        task = int(Path(f"/proc/{submitted.job_id}/task/{submitted.job_id}/children").read_text().split()[0])
        os.kill(task, signal.SIGUSR2)
        assert submitted.result() is None, submitted.stderr()
    finally:
        submitted.cancel(check=False)
    assert run.state() == "finished"
    assert run.status()["resumed"] is not None
    assert "Caught signal SIGUSR2" in submitted.stderr()


def options_of_file() -> dict[str, object]:
    launcher = Composer("train").jobs(["hydra/launcher=slurm"])[1]
    return {name: value for name, value in launcher.items() if name != "_target_"}


def test_the_script_is_an_array_job_with_what_was_asked_for(call, tiny, tmp_path, sbatch):
    asked = ("timeout_min=90", "signal_delay_s=60", "array_parallelism=2", "cpus_per_task=3", "gpus_per_node=1")
    more = ("partition=short", "account=me", "mem_gb=8", "setup=[module load cuda]", "wait=false")
    words = [f"hydra.launcher.{word}" for word in (*asked, *more)]
    result = call("train", "-m", *tiny, "seed=0,1,2", "hydra/launcher=slurm", *words, "outputs=out")
    assert result.code == 0, result.err
    assert result.out.splitlines()[:2] == [
        "3 of 3 runs are missing",
        f"submitted as job 42; scripts and logs: {tmp_path / 'out' / 'slurm'}",
    ]
    script = sbatch.read_text()
    flags = {line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert flags >= {
        *("--array=0-2%2", "--time=90", "--signal=USR2@60", "--requeue", "--open-mode=append", "--job-name=run"),
        *("--cpus-per-task=3", "--gpus-per-node=1", "--partition=short", "--account=me", "--mem=8GB", "--nodes=1"),
    }
    assert "\nmodule load cuda\n" in script
    assert "-m submitit.core._submit" in script
    assert len(list((tmp_path / "out" / "slurm").glob("42_*/42_*_submitted.pkl"))) == 3
    assert not list(tmp_path.glob("out/train/*")), "nothing is trained here"


def test_without_slurm_and_with_bad_values(call, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for words, said in {
        (): "hydra/launcher=slurm needs Slurm's commands srun and sbatch on this machine",
        ("hydra.launcher.timeout_min=0",): "hydra.launcher.timeout_min=0: expected a whole number",
        ("hydra.launcher.setup=module",): "hydra.launcher.setup=module: expected null or a list",
        ("hydra.launcher.nodes=2",): "nodes",
    }.items():
        result = call("train", "-m", *tiny, "hydra/launcher=slurm", *words)
        assert result.code == 2
        assert said in result.err and len(result.err.splitlines()) == 1
    assert not list(tmp_path.glob("outputs/*/train"))
