"""Hashes of the source of the user's own classes, because a change to the code gives another network."""

import ast
import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.config.build import NAMED_CLASS, PACKAGES, targets
from runner.files import sha256_of

# Modules of the standard library and of installed packages are identified by name, not by content.
_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def own_sources(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a hash of the source of each of the user's own classes, by the option that names the class.

    A hash covers the module and everything it imports from the same folder. Classes from this package and from
    installed packages are left out.
    """
    named = {name: str(value) for group in PACKAGES for name, value in targets(config[group], group)}
    if config["model"]["_target_"] == NAMED_CLASS:
        named["model.architecture"] = str(config["model"]["architecture"]).replace(":", ".")
    hashes = {name: _source_hash(value) for name, value in named.items() if not value.startswith("runner.")}
    return {name: hash_ for name, hash_ in hashes.items() if hash_ is not None}


def _source_hash(target: str) -> str | None:
    module, _, _ = target.rpartition(".")
    root = _root(module)
    if root is None:
        return None
    digest = hashlib.sha256()
    for file in sorted(_with_imports(module, root)):
        digest.update(f"{file.relative_to(root).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _root(module: str) -> Path | None:
    """Return the folder that a module is imported from, or None if it is installed or cannot be found."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations))).resolve().parent
    elif spec.has_location and spec.origin:
        root = Path(spec.origin).resolve().parent
    else:
        return None
    return None if any(root.is_relative_to(folder) for folder in _INSTALLED) else root


def _with_imports(module: str, root: Path) -> set[Path]:
    """Return the files under `root` that are read when a module is imported, including those of its own imports."""
    found: set[Path] = set()
    waiting = list(_files(module, root))
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += [other for name in _imports(file, root) for other in _files(name, root)]
    return found


def _files(name: str, root: Path) -> Iterator[Path]:
    """Yield the files under `root` that belong to a dotted name, including those of its parent packages."""
    if name.partition(".")[0] == "runner":
        return
    place = root
    for part in name.split("."):
        place = place / part
        yield from (file for file in (place.with_name(f"{part}.py"), place / "__init__.py") if file.is_file())


def _imports(file: Path, root: Path) -> Iterator[str]:
    """Yield the dotted names imported by a file. `from a import b` gives a.b, which is not necessarily a module."""
    package = file.relative_to(root).parent.parts
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # reported when the class is imported
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = [*above, *([node.module] if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)
