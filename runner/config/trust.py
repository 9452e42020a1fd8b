"""Which classes a stored configuration may name: its author may be a stranger, and importing runs code.

A class is trusted that the user has named on this command line, or whose file lies in the --config-dir.
"""

import sys
from pathlib import Path

from runner.errors import ForeignRun

_named: set[str] = set()
_folders: set[Path] = set()


def trust(architecture: str) -> None:
    """Allow `my_file:Net`, and find it in the current folder."""
    _named.add(architecture)
    if (here := str(Path.cwd())) not in sys.path:  # behind all installed packages
        sys.path.append(here)


def trust_folder(folder: Path) -> None:
    """Allow the classes of the files of a folder."""
    _folders.add(folder)


def check_trusted(architecture: str) -> None:
    """Raises: ForeignRun unless the user has named the class, or the folder that its file is in."""
    module = architecture.partition(":")[0].partition(".")[0]
    files = [file for folder in _folders for file in (folder / f"{module}.py", folder / module / "__init__.py")]
    if architecture not in _named and not any(file.is_file() for file in files):
        raise ForeignRun(
            f"model.architecture={architecture}: a class of somebody's own, whose code would be run; "
            f'name it again, model.architecture={architecture} (in Python trusted="{architecture}"), '
            "or give --config-dir FOLDER, where its file is"
        )
