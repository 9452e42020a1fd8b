"""Trust in classes that are named in stored configurations.

Importing a class executes code, and a configuration's author may be unknown. A class is trusted only if the user's own
configuration names it (on the command line, in a file of the --config-dir, or as an argument in Python), or if its file
is in the --config-dir.
"""

import sys
from pathlib import Path

from runner.errors import ForeignRun

_named: set[str] = set()
_folders: set[Path] = set()


def trust(architecture: str) -> None:
    """Trust a class such as `my_file:Net`, and allow it to be imported from the current folder."""
    _named.add(architecture)
    if (here := str(Path.cwd())) not in sys.path:  # after all installed packages
        sys.path.append(here)


def trust_folder(folder: Path) -> None:
    """Trust the classes in the files of a folder."""
    _folders.add(folder)


def check_trusted(architecture: str) -> None:
    """Raise a ForeignRun error unless the user has named the class or the folder that contains its file."""
    module = architecture.partition(":")[0].partition(".")[0]
    files = [file for folder in _folders for file in (folder / f"{module}.py", folder / module / "__init__.py")]
    if architecture not in _named and not any(file.is_file() for file in files):
        raise ForeignRun(
            f"model.architecture={architecture}: a user-defined class, whose code would be run; "
            f'to allow this, repeat model.architecture={architecture} (in Python trusted="{architecture}"), '
            "or give --config-dir FOLDER with its file"
        )
