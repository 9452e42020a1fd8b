"""A run that is killed at any moment and started again gives bitwise the same numbers as an uninterrupted one."""

import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from runner.files import read_rows
from runner.runs import Run

OFTEN = "checkpoint_minutes=0.0005"  # every 30 ms, which is about every step


@pytest.fixture(scope="module")
def longer(longer) -> tuple[str, ...]:
    """A run whose steps take long enough to be killed in."""
    return (*longer, "data.validation=0.1", "schedule.batch_size=400")


@pytest.fixture(scope="module")
def uninterrupted(left_alone, longer) -> Run:
    return left_alone(*longer)


def wait_for(happened: Callable[[], object], alive: Callable[[], bool], seconds: float = 200) -> None:
    """Wait until something has happened or the process has ended."""
    end = time.monotonic() + seconds
    while alive() and not happened():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.003)


def rows(run: Run) -> int:
    return len(read_rows(run.metrics_file))


def points(run: Run) -> int:
    return len(read_rows(run.pruning_file))


def checkpointed_inside_an_epoch(run: Run) -> bool:
    """Whether there is a checkpoint that is newer than the last epoch's row."""
    if not (run.checkpoint_file.exists() and run.metrics_file.exists()):
        return run.checkpoint_file.exists()
    return run.checkpoint_file.stat().st_mtime_ns > run.metrics_file.stat().st_mtime_ns


# The moments at which a run is killed, one after the other.
MOMENTS: list[Callable[[Run], object]] = [
    lambda run: run.lock_file.exists(),
    lambda run: run.status_file.exists(),
    checkpointed_inside_an_epoch,
    lambda run: rows(run) >= 1,
    lambda run: rows(run) >= 3 and checkpointed_inside_an_epoch(run),
    lambda run: rows(run) >= 5,
    lambda run: run.weights_file.exists(),
    lambda run: points(run) >= 1,
    lambda run: points(run) >= 3,
]


@pytest.mark.slow
def test_killed_again_and_again(start, longer, uninterrupted, same, tmp_path):
    run, chance = Run(tmp_path / "run"), random.Random()
    words = ("train", *longer, f"folder={run.folder}", OFTEN)
    killed = 0
    for moment in MOMENTS:
        process = start(*words)
        wait_for(lambda moment=moment: moment(run), process.is_alive)
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
        killed += process.exitcode != 0
        assert run.state() in ("interrupted", "finished", "")
    assert killed >= 5
    last = start(*words)
    last.join()
    assert last.exitcode == 0
    same(run, uninterrupted)
    status = run.status()
    assert status["error"] is None and status["resumed"] >= status["started"]
    assert not run.checkpoint_file.exists()


@pytest.mark.slow
def test_ctrl_c_of_the_command_itself(begin, start, longer, uninterrupted, same, tmp_path):
    run = Run(tmp_path / "run")
    words = ("train", *longer, f"folder={run.folder}", OFTEN)

    process = begin(*words)
    wait_for(lambda: rows(run) >= 2, lambda: process.poll() is None)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    said = "\nrun: interrupted; the same command resumes from the last checkpoint\n"
    assert (process.returncode, out, err) == (130, "", said)
    assert run.state() == "interrupted"
    last = start(*words)
    last.join()
    assert last.exitcode == 0
    same(run, uninterrupted)


def test_two_at_once(start, longer, uninterrupted, same, call, tmp_path):
    run = Run(tmp_path / "run")
    words = ("train", *longer, f"folder={run.folder}")
    first = start(*words)
    wait_for(lambda: rows(run) >= 1, first.is_alive)
    os.kill(first.pid, signal.SIGSTOP)  # so that it exists while the test checks
    try:
        assert run.state() == "running"
        for second in (words, (*words, "force=true")):
            result = call(*second)
            assert result.code == 1
            assert result.err == f"run: {run.folder} is in use by another process; left as it is\n"
        pruned = call("prune", str(run.folder))
        assert pruned.code == 2
        assert "is not finished (running)" in pruned.err
        assert f"running      {run.folder}  epoch " in call("list", "runs", str(tmp_path)).out
    finally:
        os.kill(first.pid, signal.SIGCONT)
    first.join()
    assert first.exitcode == 0
    same(run, uninterrupted)
