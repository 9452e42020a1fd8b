"""What takes seconds to make and is the same each time: kept as files in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from runner.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """`run` in $XDG_CACHE_HOME, or in ~/.cache where that is unset or, against its specification, relative.

    Raises:
        OSError: there is no home folder either.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "run"
    try:
        return Path.home() / ".cache" / "run"
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error


def load(kind: str, key: str) -> str | None:
    """The text that was stored by this key; None if there is none, or its file is damaged or can't be read."""
    try:
        path = file_of(kind, key)
        stored = json.loads(path.read_bytes())
        text = stored["text"]
        if hashed(text) != stored["sha256"]:
            raise ValueError("its content has another hash")
    except FileNotFoundError:
        return None
    except OSError as error:
        log.info("the cache is not used: %s", error)
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        log.warning("%s is damaged; its content is made anew", path)
        return None
    return str(text)


def store(kind: str, key: str, text: str) -> None:
    """Keeps the text for `load`. Where that can't be, nothing is kept."""
    content = json.dumps({"sha256": hashed(text), "text": text})
    try:
        path = file_of(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A place of its own: of two runs that start side by side, both may be making the same text.
        with tempfile.TemporaryDirectory(dir=path.parent) as own:
            beside = Path(own, path.name)
            beside.write_text(content)
            beside.replace(path)
    except OSError as error:
        log.info("nothing is kept in the cache: %s", error)


def file_of(kind: str, key: str) -> Path:
    return cache_folder() / kind / f"{key}.json"


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def load_tensor(kind: str, key: str) -> Tensor | None:
    """The tensor that was stored by this key; None if there is none, or its file is damaged or can't be read."""
    from safetensors import SafetensorError, safe_open

    path = cache_folder() / kind / f"{key}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            tensor: Tensor = file.get_tensor("tensor")
            if (file.metadata() or {}).get("sha256") != _hash_of_tensor(tensor):
                raise ValueError("its content has another hash")
            return tensor
    except FileNotFoundError:
        return None
    except OSError as error:
        log.info("the cache is not used: %s", error)
        return None
    except (SafetensorError, ValueError):
        log.warning("%s is damaged; its content is made anew", path)
        return None


def store_tensor(kind: str, key: str, tensor: Tensor) -> None:
    """Keeps the tensor for `load_tensor`. Where that can't be, nothing is kept."""
    from safetensors.torch import save

    content = save({"tensor": tensor}, {"sha256": _hash_of_tensor(tensor)})
    try:
        path = cache_folder() / kind / f"{key}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        log.info("nothing is kept in the cache: %s", error)


def _hash_of_tensor(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
