"""The source of a user's own classes: with other code, the same options make another network."""

import ast
import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.config.build import NAMED_CLASS, PACKAGES, targets
from runner.files import sha256_of

# The standard library and installed packages go by their names.
_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def own_sources(config: Mapping[str, Any]) -> dict[str, str]:
    """Option → a hash of the module that its `_target_` names and of all that this imports from beside itself.

    Only of classes outside this package and outside installed ones; {} where there is none.
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
    """The folder that a module is imported from, unless it is an installed one."""
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
    """The files below `root` that importing a module reads, those of its imports among them."""
    found: set[Path] = set()
    waiting = list(_files(module, root))
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += [other for name in _imports(file, root) for other in _files(name, root)]
    return found


def _files(name: str, root: Path) -> Iterator[Path]:
    """The files of a dotted name that lie below `root`: of the packages on the way to it, and its own."""
    if name.partition(".")[0] == "runner":
        return
    place = root
    for part in name.split("."):
        place = place / part
        yield from (file for file in (place.with_name(f"{part}.py"), place / "__init__.py") if file.is_file())


def _imports(file: Path, root: Path) -> Iterator[str]:
    """The dotted names that a file imports; of `from a import b` it is a.b, which may be a module or not."""
    package = file.relative_to(root).parent.parts
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # said where the class is imported
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = [*above, *([node.module] if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)
