"""What can be deleted of run folders: failed runs, and checkpoints of finished ones."""

from collections.abc import Sequence
from contextlib import suppress

from runner.errors import UserError
from runner.runs import Run

KINDS = {"checkpoints": "its checkpoint", "failed": "the failed run"}


def deletable(run: Run, asked: Sequence[str]) -> tuple[Run, str] | None:
    """The run and which of the `KINDS` asked for can be deleted of it; None: nothing."""
    try:
        state = run.state()
    except UserError:  # damaged: for people to look at
        return None
    if state == "failed" and "failed" in asked:
        return run, "failed"
    if state == "finished" and "checkpoints" in asked and run.checkpoint_file.exists():
        return run, "checkpoints"
    return None


def description(run: Run, what: str) -> str:
    """What would be deleted, its size and, of a failed run, its error."""
    paths = [run.checkpoint_file] if what == "checkpoints" else list(run.folder.rglob("*"))
    size = sum(path.lstat().st_size for path in paths if path.is_file())
    reason = f" ({' '.join(str(run.status().get('error') or '').split())})" if what == "failed" else ""
    return f"{run.folder}: {KINDS[what]}, {size / 1e6:.1f} MB{reason}"


def delete(run: Run, what: str) -> None:
    """Delete it, and nothing that the run did not write.

    Raises:
        FolderInUse: another process uses the folder.
    """
    with run.locked():
        if deletable(run, [what]) is None:
            return  # somebody went on with it meanwhile
        if what == "checkpoints":
            run.checkpoint_file.unlink(missing_ok=True)
            return
        run.clear()
        run.lock_file.unlink(missing_ok=True)
    with suppress(OSError):  # it holds something else, or its parent has other seeds
        run.folder.rmdir()
        run.folder.parent.rmdir()
