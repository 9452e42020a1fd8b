"""Everything a run needs to go on, in one file that can't run code and is never half written."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from runner.errors import damaged


def save(path: Path, state: dict[str, Any]) -> None:
    """Write beside and rename."""
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:  # given a path, torch.save tells of a full disk as a RuntimeError
        torch.save(state, file)
    beside.replace(path)


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The saved state, or None where there is no file.

    Raises:
        DamagedRun: the file can't be read, or is not a checkpoint of plain tensors and values.
    """
    if not path.exists():
        return None
    try:
        # The file is a ZIP archive with a checksum of each member, which torch.load doesn't look at.
        with zipfile.ZipFile(path) as archive:
            if (member := archive.testzip()) is not None:
                raise ValueError(f"{member} has another checksum")
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict) or "step" not in state:
            raise ValueError("no training state in it")
    except Exception as error:
        raise damaged(path, error) from None
    return state
