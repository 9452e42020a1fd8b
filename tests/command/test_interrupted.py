"""Interruptions at specific points, and the state that a resumed run restores."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import torch

from runner import experiment, running
from runner.files import read_rows
from runner.runs import Run
from runner.training import callbacks, checkpoint
from runner.training.loop import Training

ALWAYS = "checkpoint_minutes=1e-9"  # after every step


@contextmanager
def interruption(owner: object, name: str, n: int, after: bool) -> Iterator[None]:
    """A context in which the n-th call of a function raises KeyboardInterrupt, before or after doing its work."""
    original, calls = getattr(owner, name), count(1)

    def interrupted(*args, **options):
        if (now := next(calls)) == n and not after:
            raise KeyboardInterrupt
        result = original(*args, **options)
        if now == n:
            raise KeyboardInterrupt
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        yield


@pytest.fixture
def words(longer) -> tuple[str, ...]:
    return ("train", *longer, "folder=run", ALWAYS)


@pytest.fixture
def run() -> Run:
    return Run(Path("run"))


PLACES = {
    "after a step, before its checkpoint": (Training, "one_step", 5, True),
    "in a validation": (Training, "evaluate", 2, False),
    "after an epoch's row, before its checkpoint": (callbacks, "append_row", 3, True),
    "writing a checkpoint": (checkpoint, "save", 11, False),
    "after the last checkpoint": (checkpoint, "save", 18, True),
    "after the weights, before the status": (experiment, "write_bytes", 2, True),
    "after the configuration, before its checksum": (Run, "seal", 1, False),
    "before the weights' checksums": (Run, "seal", 2, False),
    "after the last point of the sweep, before its checksum": (Run, "seal", 3, False),
    "at the first point of the sweep": (experiment, "append_row", 1, False),
    "after the fourth point of the sweep": (experiment, "append_row", 4, True),
}


@pytest.mark.parametrize(("owner", "name", "n", "after"), PLACES.values(), ids=PLACES)
def test_goes_on_to_the_same_numbers(owner, name, n, after, call, words, run, uninterrupted, same, request):
    with interruption(owner, name, n, after):
        result = call(*words)
    assert result.code == 130
    begun = "after the configuration" not in request.node.callspec.id
    going_on = "resumes from the last checkpoint" if begun else "starts over: there is no checkpoint yet"
    assert result.err.endswith(f"interrupted; the same command {going_on}\n")
    assert run.state() == "interrupted"
    assert call(*words).code == 0
    same(run, uninterrupted)


def test_before_the_first_checkpoint_it_starts_over_and_says_so(call, words, run, uninterrupted, same):
    with interruption(Training, "one_step", 1, True):
        result = call(*words)
    assert result.code == 130
    assert result.err == "\nrun: interrupted; the same command starts over: there is no checkpoint yet\n"
    assert call(*words).code == 0
    same(run, uninterrupted)


def test_before_anything_is_written_it_promises_nothing(call, words, run):
    with interruption(running, "run_of", 1, False):
        result = call(*words)
    assert (result.code, result.err) == (130, "\nrun: interrupted\n")
    assert not run.folder.exists()


def test_an_epoch_in_pieces_keeps_its_averages(call, words, run, uninterrupted):
    """Its row averages over all examples of the epoch, not only those since the interruption."""
    with interruption(Training, "one_step", 3, False):
        assert call(*words).code == 130
    state = checkpoint.load(run.checkpoint_file, torch.device("cpu"))
    assert (state["step"], float(state["sums"]["examples"])) == (2, 80)
    with interruption(Training, "one_step", 2, False):
        assert call(*words).code == 130
    row, expected = (read_rows(metrics)[0] for metrics in (run.metrics_file, uninterrupted.metrics_file))
    assert row["train_loss"] == expected["train_loss"]
    assert row["train_accuracy"] == expected["train_accuracy"]


@pytest.mark.parametrize("n", [1, 2])
def test_a_repeated_sweep_cut_short_is_no_damage(n, call, finished):
    """Before and after its only row, for all commands that read the rows."""
    words = ("prune", str(finished.folder), "prune.sparsities=[0.25]", "prune.splits=[test]")
    with interruption(experiment, "append_row", n, False):
        assert call(*words).code == 130
    assert finished.state() == "finished"
    for command in ("table", "prune"):
        result = call(command, *words[1:] if command == "prune" else words[1:2])
        assert (result.code, result.err) == (0, "")
    assert call(*words).code == 0
    assert finished.sealed(finished.pruning_file)


@pytest.mark.parametrize("dropout", ["rigl", "smallify"])
def test_what_a_variant_remembers_is_taken_over(dropout, call, words, same):
    """Grown connections, and switches with their averages."""
    words = [word.replace("ramping", dropout) for word in words]
    assert call(*words[:-2], "folder=through").code == 0
    for step in (5, 6):  # the fifth step of the epoch, and the tenth of all
        with interruption(Training, "one_step", step, False):
            assert call(*words).code == 130
    assert call(*words).code == 0
    same(Run(Path("run")), Run(Path("through")))


@pytest.mark.parametrize("left", ["", "granul", "header\nweight,layer,ow"])
def test_a_table_cut_short_by_a_crash_is_written_whole(left, call, words, run, uninterrupted, same):
    with interruption(experiment, "append_row", 1, False):
        assert call(*words).code == 130
    header = uninterrupted.pruning_file.read_text().splitlines()[0]
    run.pruning_file.write_text(left.replace("header", header))
    assert call(*words).code == 0
    same(run, uninterrupted)


def test_threads_are_those_that_the_run_began_with(call, words, run):
    with interruption(Training, "one_step", 3, True):
        assert call(*words).code == 130
    run.write_status(threads=2)
    seen = []

    def fit(*_):
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    assert torch.get_num_threads() != 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "fit", fit)
        call(*words)
    assert seen == [2]
    assert run.status()["threads"] == 2


def test_a_damaged_checkpoint_is_named_and_force_starts_over(call, words, run, uninterrupted, same):
    with interruption(Training, "one_step", 7, True):
        assert call(*words).code == 130
    whole, status = run.checkpoint_file.read_bytes(), run.status_file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1  # in a weight: one that remains readable and would silently change every number
    for damage in (whole[: len(whole) // 2], b"", b"no checkpoint at all", bytes(flipped)):
        run.checkpoint_file.write_bytes(damage)
        result = call(*words)
        assert result.code == 2
        assert result.err.startswith("run: run/checkpoint.pt is damaged (")
        assert "force=true starts over" in result.err
        assert len(result.err.splitlines()) == 1
        assert run.checkpoint_file.read_bytes() == damage
        assert run.status_file.read_bytes() == status
    assert call(*words, "force=true").code == 0
    same(run, uninterrupted)


def test_a_checkpoint_of_another_model_is_damaged(call, words, run):
    with interruption(Training, "one_step", 3, True):
        assert call(*words).code == 130
    for state in ({"step": 3, "model": {}}, {"step": 3}, {"weights": 1}, [1, 2]):
        torch.save(state, run.checkpoint_file)
        result = call(*words)
        assert result.code == 2
        assert "run/checkpoint.pt is damaged (" in result.err


def test_a_damaged_csv_file_is_named(call, words, run):
    with interruption(Training, "one_step", 7, True):
        assert call(*words).code == 130
    text = run.metrics_file.read_text()
    for damage in (text.replace("\n1,3,", "\n1,x,").encode(), b"\xff\n", b"a\n1\n"):
        assert damage != text.encode()
        run.metrics_file.write_bytes(damage)
        result = call(*words)
        assert result.code == 2
        assert "run/metrics.csv is damaged (" in result.err
