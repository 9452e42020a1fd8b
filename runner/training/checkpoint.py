"""Checkpoints: the whole state of a training run in one file, which can't execute code and is written atomically."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from runner.errors import damaged

# The file is the output of torch.save, followed by this mark and the SHA-256 of that output. torch.load does not verify
# a checksum: training would continue with a flipped bit.
_MARK = b"\nsha256 "
_TAIL = len(_MARK) + hashlib.sha256().digest_size


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    The state is written to a new file, which is then renamed. State and checksum are written separately, since
    `write_bytes` would hold the state in memory twice.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(content)
        file.write(_MARK + hashlib.sha256(content).digest())
    beside.replace(path)


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Return the saved state, or None if there is no file. Older files without a checksum are also supported.

    Raises:
        DamagedRun: the file can't be read, or is not a checkpoint of plain tensors and values.
    """
    content = read(path)
    return None if content is None else parse(content, path, device)


def read(path: Path) -> bytes | None:
    """Return the content of the file, or None if there is none. Raises DamagedRun if it can't be read."""
    try:
        return path.read_bytes() if path.exists() else None
    except OSError as error:
        raise damaged(path, error) from None


def parse(content: bytes, path: Path, device: torch.device) -> dict[str, Any]:
    """Return the state stored in the content of a checkpoint file. Raises the same error as `load`."""
    try:
        tail = content[-_TAIL:]
        if tail.startswith(_MARK):
            content = content[:-_TAIL]
            if hashlib.sha256(content).digest() != tail.removeprefix(_MARK):
                raise ValueError("its checksum does not match")
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        if not isinstance(state, dict) or "step" not in state:
            raise ValueError("no training state in it")
    except Exception as error:
        raise damaged(path, error) from None
    return state
