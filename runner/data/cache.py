"""A cache of deterministic results that take seconds to compute, in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

T = TypeVar("T")


def cache_folder() -> Path:
    """Return the folder `run` in $XDG_CACHE_HOME, or in ~/.cache if the variable is unset or not an absolute path.

    Raises:
        OSError: the variable cannot be used and there is no home folder.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "run"
    try:
        return Path.home() / ".cache" / "run"
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error


def load(kind: str, key: str) -> str | None:
    """Return the text stored under a key, or None if it does not exist or cannot be read."""
    return _load(kind, f"{key}.json", _text_of)


def store(kind: str, key: str, text: str) -> None:
    """Store a text under a key. If this fails, nothing is stored and no error is raised."""
    _store(kind, f"{key}.json", json.dumps({"sha256": hashed(text), "text": text}).encode())


def load_tensor(kind: str, key: str) -> Tensor | None:
    """Return the tensor stored under a key, or None if it does not exist or cannot be read."""
    return _load(kind, f"{key}.safetensors", _tensor_of)


def store_tensor(kind: str, key: str, tensor: Tensor) -> None:
    """Store a tensor under a key. If this fails, nothing is stored and no error is raised."""
    from safetensors.torch import save

    _store(kind, f"{key}.safetensors", save({"tensor": tensor}, {"sha256": _hash_of_tensor(tensor)}))


def _load(kind: str, name: str, read: Callable[[Path], T]) -> T | None:
    try:
        path = cache_folder() / kind / name
        return read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.info("the cache is not used: %s", error)
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        log.warning("%s is damaged and will be recreated", path)
        return None


def _store(kind: str, name: str, content: bytes) -> None:
    try:
        folder = cache_folder() / kind
        folder.mkdir(parents=True, exist_ok=True)
        # A folder of its own, since two concurrent runs may store the same file.
        with tempfile.TemporaryDirectory(dir=folder) as own:
            beside = Path(own, name)
            beside.write_bytes(content)
            beside.replace(folder / name)
    except OSError as error:
        log.info("nothing was written to the cache: %s", error)


def _text_of(path: Path) -> str:
    stored = json.loads(path.read_bytes())
    text = stored["text"]
    if hashed(text) != stored["sha256"]:
        raise ValueError("its checksum does not match")
    return str(text)


def _tensor_of(path: Path) -> Tensor:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensor: Tensor = file.get_tensor("tensor")
            known = (file.metadata() or {}).get("sha256")
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if known != _hash_of_tensor(tensor):
        raise ValueError("its checksum does not match")
    return tensor


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_of_tensor(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
