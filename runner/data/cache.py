"""What takes seconds to make and is the same each time: kept as files in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path

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
