"""Delete failed runs and the checkpoints of finished runs."""

from collections.abc import Sequence
from contextlib import suppress

from runner.errors import UserError
from runner.runs import Run

KINDS = {"checkpoints": "its checkpoint", "failed": "the failed run"}


def deletable(run: Run, asked: Sequence[str]) -> tuple[Run, str] | None:
    """Return the run and the key in `KINDS` of what can be deleted from it, or None if nothing requested can."""
    try:
        state = run.state()
    except UserError:  # damaged: left for the user to inspect
        return None
    if state == "failed" and "failed" in asked:
        return run, "failed"
    if state == "finished" and "checkpoints" in asked and run.checkpoint_file.exists():
        return run, "checkpoints"
    return None


def description(run: Run, what: str) -> str:
    """Describe what would be deleted: its kind, its size and, for a failed run, the error."""
    paths = [run.checkpoint_file] if what == "checkpoints" else list(run.folder.rglob("*"))
    size = sum(path.lstat().st_size for path in paths if path.is_file())
    reason = f" ({' '.join(str(run.status().get('error') or '').split())})" if what == "failed" else ""
    return f"{run.folder}: {KINDS[what]}, {size / 1e6:.1f} MB{reason}"


def delete(run: Run, what: str) -> None:
    """Delete a failed run or a checkpoint. Files that the run did not write are kept.

    Raises:
        FolderInUse: another process is using the folder.
    """
    with run.locked():
        if deletable(run, [what]) is None:
            return  # the run was continued in the meantime
        if what == "checkpoints":
            run.checkpoint_file.unlink(missing_ok=True)
            return
        run.clear()
        run.lock_file.unlink(missing_ok=True)
    with suppress(OSError):  # the folder holds other files, or its parent holds other seeds
        run.folder.rmdir()
        run.folder.parent.rmdir()
