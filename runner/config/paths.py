"""Locations and contents of configuration files. This module imports neither Hydra nor torch."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).resolve().parent.parent
# The folder is inside the package in a wheel and beside it in a checkout.
CONF = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf"

# Listed in this order, before all others.
_FIRST = ("model", "dropout", "regularizer", "data", "task", "schedule", "prune", "granularity", "criterion")


def groups(folders: Iterable[Path] = (CONF,)) -> list[str]:
    """Return the groups of choices in configuration folders, except Hydra's own."""
    found = {path.name for folder in folders for path in folder.iterdir() if path.is_dir() and any(path.glob("*.yaml"))}
    first = [group for group in _FIRST if group in found]
    return [*first, *sorted(found - {*first, "hydra"})]


@cache
def _content(file: Path) -> dict[str, Any]:
    content = yaml.safe_load(file.read_text()) if file.is_file() else None
    return content if isinstance(content, dict) else {}


def content_of(group: str, name: str, folders: Iterable[Path] = (CONF,)) -> dict[str, Any]:
    """Return the content of a choice's file, or {} if there is none. Later folders take precedence."""
    files = [folder / group / f"{name}.yaml" for folder in folders] if Path(name).name == name else []
    return next((content for content in map(_content, reversed(files)) if content), {})


def options_in(group: str, name: str, folders: Iterable[Path] = (CONF,)) -> dict[str, Any]:
    """Return the group's options from a choice's file."""
    content = content_of(group, name, folders)
    part = content.get(group, content)
    return part if isinstance(part, dict) else {}
