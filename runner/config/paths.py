"""Where the shipped configurations are, and what their files say. Imports no Hydra and no torch."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).resolve().parent.parent
# Inside the package in a wheel, beside it in a checkout.
CONF = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf"

# Shown in this order, before any others.
_FIRST = ("model", "dropout", "regularizer", "data", "task", "schedule", "prune", "granularity", "criterion")


def groups(folders: Iterable[Path] = (CONF,)) -> list[str]:
    """The groups of choices that some folders of configurations have; Hydra's own are its own matter."""
    found = {path.name for folder in folders for path in folder.iterdir() if path.is_dir() and any(path.glob("*.yaml"))}
    first = [group for group in _FIRST if group in found]
    return [*first, *sorted(found - {*first, "hydra"})]


@cache
def _content(file: Path) -> dict[str, Any]:
    content = yaml.safe_load(file.read_text()) if file.is_file() else None
    return content if isinstance(content, dict) else {}


def content_of(group: str, name: str, folders: Iterable[Path] = (CONF,)) -> dict[str, Any]:
    """What the file of a choice says, {} where there is none; of several folders the last one that has it counts."""
    files = [folder / group / f"{name}.yaml" for folder in folders] if Path(name).name == name else []
    return next((content for content in map(_content, reversed(files)) if content), {})


def options_in(group: str, name: str, folders: Iterable[Path] = (CONF,)) -> dict[str, Any]:
    """The group's options that the file of a choice lists."""
    content = content_of(group, name, folders)
    part = content.get(group, content)
    return part if isinstance(part, dict) else {}
