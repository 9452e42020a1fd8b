"""A full or read-only disk: a clear error, finished epochs are kept, and the run resumes once there is space."""

import errno
import os
from itertools import count
from pathlib import Path

import pytest

from runner.files import read_rows
from runner.runs import Run

# Writing to this device gives the same error as a full disk.
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@pytest.fixture
def words(longer) -> tuple[str, ...]:
    return ("train", *longer, "folder=run")


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "run")


def check_clear(result, name: str) -> None:
    assert result.code == 1
    assert result.err.startswith("run: ")
    assert name in result.err
    assert "No space left on device; finished epochs are kept" in result.err
    assert len(result.err.splitlines()) == 1


@needs_full
def test_no_room_for_a_checkpoint(call, words, run, uninterrupted, same):
    run.folder.mkdir()
    (run.folder / "checkpoint.pt.new").symlink_to(FULL)
    check_clear(call(*words), "run")
    assert run.state() == "failed"
    assert "No space left" in run.status()["error"]
    assert len(read_rows(run.metrics_file)) == 1
    (run.folder / "checkpoint.pt.new").unlink()
    assert call(*words).code == 0
    same(run, uninterrupted)


@needs_full
@pytest.mark.parametrize("name", ["weights.safetensors.new", "pruning.csv.new"])
def test_no_room_for_a_result(name, call, words, run, uninterrupted, same):
    run.folder.mkdir()
    (run.folder / name).symlink_to(FULL)
    check_clear(call(*words), "run")
    assert run.state() == "failed"
    (run.folder / name).unlink()
    assert call(*words).code == 0
    same(run, uninterrupted)


@pytest.mark.parametrize("rows", [3, 8])
def test_a_disk_that_fills_up(rows, call, words, run, uninterrupted, same):
    """The disk fills up after some rows of metrics.csv or pruning.csv; then even the status cannot be written."""
    synced, fsync, write_all = count(1), os.fsync, Path.write_bytes
    full = OSError(errno.ENOSPC, "No space left on device")

    def sync(handle):
        if next(synced) > rows:
            patch.setattr(Path, "write_bytes", write)
            raise full
        fsync(handle)

    def write(path, content):
        write_all(path, content[: len(content) // 2])
        raise full

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        result = call(*words)
    check_clear(result, "run")
    assert run.state() == "interrupted"
    assert len(read_rows(run.metrics_file)) == min(rows + 1, 6)
    assert call(*words).code == 0
    same(run, uninterrupted)


@needs_full
def test_no_room_for_the_figure(call, words, run, tree, drawn):
    run.folder.mkdir()
    (run.folder / "pruning.png.new").symlink_to(FULL)
    check_clear(call(*words), "run")
    assert run.state() == "failed"
    (run.folder / "pruning.png.new").unlink()
    rows = run.pruning_file.read_text()
    assert call(*words).code == 0
    assert run.pruning_figure.read_bytes().startswith(b"\x89PNG")
    assert run.pruning_file.read_text() == rows


def test_a_folder_that_can_not_be_made(call, words, tmp_path):
    (tmp_path / "run").write_text("a file")
    result = call(*words)
    assert result.code == 1
    assert result.err.startswith("run: ")
    assert "run" in result.err and "Not a directory" in result.err
    assert len(result.err.splitlines()) == 1
    assert (tmp_path / "run").read_text() == "a file"


def test_a_read_only_disk(call, words, tmp_path, monkeypatch):
    def mkdir(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    result = call(*words)
    assert (result.code, result.err) == (1, "run: can't write into run: Read-only file system\n")
    assert list(tmp_path.iterdir()) == []
