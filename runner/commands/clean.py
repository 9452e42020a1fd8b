"""run clean [FOLDER…]: delete failed runs, and checkpoints of finished ones, after asking."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from runner import runs
from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import FolderInUse, UserError
from runner.rules import list_of, one_of
from runner.runs import Run

_WHAT = {"checkpoints": "its checkpoint", "failed": "the failed run"}


def clean(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: lists what would go, asks, and deletes; a folder in use by another process is left alone."""
    config = Composer("clean", config_dir).single(overrides)
    check_each(config, {"what": list_of(one_of(*_WHAT))})
    found = [one for run in runs.find_runs(folders or [config["outputs"]]) if (one := _what(run, config["what"]))]
    if not found:
        print("there is nothing to delete")
        return 0
    for run, what in found:
        print(f"{run.folder}: {_WHAT[what]}, {_size(run, what) / 1e6:.1f} MB{_reason(run) if what == 'failed' else ''}")
    if not config["yes"] and not _agreed(len(found)):
        print("nothing is deleted; yes=true doesn't ask")
        return 0
    kept = 0
    for run, what in found:
        try:
            _delete(run, what)
        except FolderInUse as error:
            kept += 1
            print(error, file=sys.stderr)
    print(f"deleted: {len(found) - kept}")
    return 0


def _what(run: Run, asked: Sequence[str]) -> tuple[Run, str] | None:
    try:
        state = run.state()
    except UserError:  # damaged: for people to look at
        return None
    if state == "failed" and "failed" in asked:
        return run, "failed"
    if state == "finished" and "checkpoints" in asked and run.checkpoint_file.exists():
        return run, "checkpoints"
    return None


def _size(run: Run, what: str) -> int:
    paths = [run.checkpoint_file] if what == "checkpoints" else list(run.folder.rglob("*"))
    return sum(path.lstat().st_size for path in paths if path.is_file())


def _reason(run: Run) -> str:
    return f" ({' '.join(str(run.status().get('error') or '').split())})"


def _agreed(number: int) -> bool:
    """Whether somebody at the terminal says so; nobody is there: no."""
    if not sys.stdin.isatty():
        return False
    return input(f"delete {number}? [y/N] ").strip().lower() in ("y", "yes")


def _delete(run: Run, what: str) -> None:
    with run.locked():
        if _what(run, [what]) is None:
            return  # somebody went on with it meanwhile
        if what == "checkpoints":
            run.checkpoint_file.unlink(missing_ok=True)
            return
        run.clear()
        run.lock_file.unlink(missing_ok=True)
    with suppress(OSError):  # it holds something else, or its parent has other seeds
        run.folder.rmdir()
        run.folder.parent.rmdir()
