"""run train in several processes: one of them is killed, and the command is repeated with any number of processes."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from runner.files import read_rows
from runner.runs import Run

WORDS = ("train", "debug=smoke", "model=mlp", "dropout=ramping", "schedule.length=120it", "schedule.batch_size=31",
         "precision=float32", "device=cpu", "prune.sparsities=[0.5]")  # fmt: skip


def wait_for(happened):
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.003)


def children(process):
    """Return the processes that a process has started, in order of rank."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes as Linux tells them")
def test_killed_in_one_process_and_finished_in_another_number(call, start, tmp_path):
    run, often = Run(tmp_path / "run"), "checkpoint_minutes=1e-9"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # as set by torchrun
    words = (*WORDS, "folder=run", often)
    files = [tmp_path / f"errors{number}" for number in range(3)]
    two = [
        start(*words, folder=tmp_path, errors=files[rank], environment={**place, "RANK": str(rank)})
        for rank in range(2)
    ]
    wait_for(run.checkpoint_file.exists)
    two[1].kill()
    two[0].join(100)
    assert two[0].exitcode == 1
    errors = files[0].read_text()
    assert "run: process 0 of 2: another process of this training has ended; the same command resumes" in errors
    assert "Traceback" not in errors
    two[1].join()
    reached = run.checkpoint_file.stat().st_mtime_ns

    both = start(*words, "processes=2", folder=tmp_path, errors=files[2])
    wait_for(lambda: run.checkpoint_file.stat().st_mtime_ns > reached)
    os.kill(children(both)[0], signal.SIGKILL)
    both.join(100)
    assert both.exitcode == 1
    errors = files[2].read_text()
    assert "run: process 0 of 2 was ended (SIGKILL), and the others with it; the same command resumes" in errors
    assert "Traceback" not in errors
    assert not run.in_use()
    assert not run.weights_file.exists(), "not finished yet"

    assert call(*WORDS, "folder=run").code == 0
    assert call(*WORDS, "folder=alone").code == 0
    curves = [read_rows(one.metrics_file) for one in (run, Run(tmp_path / "alone"))]
    assert len(curves[0]) == len(curves[1])
    for row, other in zip(*curves, strict=True):
        assert float(row["train_loss"]) == pytest.approx(float(other["train_loss"]), rel=1e-3)
    assert run.status()["hash"] == Run(tmp_path / "alone").status()["hash"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("train", "processes=0"), "processes=0: expected a whole number of at least 1"),
        (("train", "-m", "processes=2", "seed=0,1"), "processes=2: works with a single run only, not with -m"),
    ],
)
def test_what_is_refused(call, words, line):
    result = call(*words)
    assert result.code == 2
    assert result.err == f"run: {line}\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("train", "compile=true"), "compile=true: works in one process only"),
        (("train", "processes=3"), "processes=3: torchrun has started 2"),
        (("train", "schedule.batch_size=1"), "schedule.batch_size=1: 2 processes need a batch of 2 or more"),
        (("train", "device=cuda:1"), "device=cuda:1: several processes need auto, cpu or cuda"),
        (("prune", "outputs"), "run prune works in one process; torchrun is for run train of one run"),
        (("train", "-m", "seed=0,1"), "run train -m works in one process; torchrun is for run train of one run"),
    ],
)
def test_what_torchrun_is_refused(call, monkeypatch, words, line):
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = call(*words)
    assert result.code == 2
    assert result.err == f"run: {line}\n"
