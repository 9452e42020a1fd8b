"""run clean [FOLDER…] [options]: delete failed runs, and checkpoints of finished runs, after confirmation

  run clean
  run clean outputs/train what=[checkpoints] yes=true

Lists what would be deleted, then asks. Deletes only files that the run wrote, and skips folders in use.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from runner import runs
from runner.cleaning import KINDS, deletable, delete, description
from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import FolderInUse
from runner.rules import list_of, one_of


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """List what would be deleted, ask for confirmation, and delete it. Folders used by another process are skipped."""
    options = Composer("clean", config_dir).single(overrides)
    check_each(options, {"what": list_of(one_of(*KINDS))})
    there = runs.find_runs(folders or [options["outputs"]])
    found = [one for run in there if (one := deletable(run, options["what"]))]
    if not found:
        print("there is nothing to delete")
        return 0
    for one in found:
        print(description(*one))
    if not options["yes"] and not _agreed(len(found)):
        print("nothing was deleted; yes=true deletes without asking")
        return 0
    kept = 0
    for one in found:
        try:
            delete(*one)
        except FolderInUse as error:
            kept += 1
            print(error, file=sys.stderr)
    print(f"deleted: {len(found) - kept}")
    return 0


def _agreed(number: int) -> bool:
    """Ask the user to confirm the deletion; return False without a terminal."""
    if not sys.stdin.isatty():
        return False
    try:
        return input(f"delete {number}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        return False
