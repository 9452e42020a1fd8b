"""Save and load compact networks as two files, model.safetensors and architecture.json (plain values only).

A packed network is a single file, packed.safetensors, that also holds the architecture.
"""

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from runner.compaction.packing import load_packed, save_packed
from runner.compaction.structure import Structure, apply_structure, load_state_sharing, shared_names
from runner.config.build import is_builder
from runner.errors import ConfigError, DamagedRun, first_line
from runner.files import write_bytes, write_text

FORMAT = 1
TENSORS, ARCHITECTURE = "model.safetensors", "architecture.json"
PACKED = "packed.safetensors"
PACKAGE = "runner.models"
_CLASS = re.compile(rf"{re.escape(PACKAGE)}(\.[a-z_][a-z0-9_]*)+\.[A-Za-z_]\w*")


def save_compact(
    folder: Path, network: nn.Module, structure: Structure, class_name: str, arguments: Mapping[str, Any]
) -> int:
    """Write a compact network.

    Args:
        folder: created if it is missing.
        network, structure: as returned by `compact`.
        class_name: dotted name of a class in runner.models that builds the whole network.
        arguments: arguments of the class, as plain values.

    Returns:
        The total size of both files in bytes.

    Raises:
        ValueError: the class isn't in runner.models, or an argument isn't a plain value.
    """
    architecture = architecture_of(structure, class_name, arguments)
    folder.mkdir(parents=True, exist_ok=True)
    content = save(stored_tensors(network))
    text = json.dumps(architecture, separators=(",", ":")) + "\n"
    write_bytes(folder / TENSORS, content)
    write_text(folder / ARCHITECTURE, text)
    return len(content) + len(text.encode())


def save_packed_network(
    folder: Path, network: nn.Module, class_name: str, arguments: Mapping[str, Any], half: bool = False
) -> int:
    """Write a network and its architecture to a single packed file. For other arguments, see `save_compact`.

    Args:
        half: see `pack`.

    Returns:
        The size of the file in bytes.
    """
    architecture = architecture_of(Structure(), class_name, arguments)
    return save_packed(folder / PACKED, stored_tensors(network), half, architecture)


def architecture_of(structure: Structure, class_name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the architecture of a network as plain values. For arguments and errors, see `save_compact`."""
    if not _CLASS.fullmatch(class_name):
        raise ValueError(f"class_name={class_name}: expected a class of {PACKAGE}")
    arguments = {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
    if not _is_plain(arguments):
        raise ValueError(f"arguments of {class_name}: expected numbers, texts and lists of them, got {arguments}")
    built = {"format": FORMAT, "class": class_name, "arguments": arguments, "structure": structure.plain()}
    return {**built, **_library(_find_class(class_name))}


def _library(cls: Any) -> dict[str, Any]:
    """Return an entry `library` with names and versions if another library builds the network, otherwise {}."""
    return {"library": cls.versions()} if is_builder(cls) else {}


def load_compact(path: str | Path) -> nn.Module:
    """Load a network that `save_compact` or `save_packed_network` wrote, in evaluation mode, on the CPU.

    The files may be untrusted: nothing in them is executed. Only classes of runner.models and named networks of
    torchvision, timm and transformers are built.

    Args:
        path: the folder or the packed file.

    Raises:
        DamagedRun: a file is missing, damaged, or names another class.
        ForeignRun: it uses a custom class that the user has not named; see `runner.config.trust`.
        ConfigError: its library is not installed, or has no such network.
    """
    path = Path(path)
    packed = path / PACKED if path.is_dir() else path
    if packed.is_file() and packed.name not in (TENSORS, ARCHITECTURE):
        content = load_packed(packed)
        return assemble(content.architecture, content.tensors, packed, packed)
    folder = path.parent if path.is_file() else path
    file = folder / ARCHITECTURE
    try:
        architecture = json.loads(file.read_text())
        tensors = load((folder / TENSORS).read_bytes())
    except OSError as error:
        raise DamagedRun(f"{error.filename}: {error.strerror}; expected {ARCHITECTURE} and {TENSORS}") from None
    except SafetensorError as error:
        raise DamagedRun(f"{folder / TENSORS} is damaged ({first_line(error)[:100]})") from None
    except (ValueError, RecursionError) as error:
        raise DamagedRun(f"{file} is damaged ({first_line(error)[:100]})") from None
    return assemble(architecture, tensors, file, folder / TENSORS)


def assemble(architecture: Any, tensors: Mapping[str, Tensor], file: Path, tensors_file: Path) -> nn.Module:
    """Build a network from its architecture and tensors, in evaluation mode. Errors name the given files."""
    try:
        network = _build(architecture, most_modules=10 * len(tensors) + 100)
    except _Unexpected as error:
        raise DamagedRun(f"{file}: {error}") from None
    except ConfigError as error:  # from a library, or from a user's own class
        raise type(error)(f"{file}: {error}") from None
    try:
        _check_tensors(tensors_file, network, tensors)
    except DamagedRun as error:
        raise DamagedRun(f"{error}{_other_version(architecture)}") from None
    missing = {key: torch.tensor(0) for key in network.state_dict() if key.endswith("num_batches_tracked")}
    load_state_sharing(network, {**missing, **tensors}, shared_names(network))
    return network.eval()


def stored_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that determine the outputs: all but `num_batches_tracked`, with shared tensors only once."""
    shared = shared_names(network)
    return {
        key: value.detach().cpu().contiguous()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked") and key not in shared
    }


class _Unexpected(Exception):
    """An unexpected value in an architecture.json."""


def _build(architecture: Any, most_modules: int) -> nn.Module:
    own = {"format", "class", "arguments", "structure"}
    _expect_keys(
        "the file",
        architecture,
        own | ({"library"} if isinstance(architecture, dict) and "library" in architecture else set()),
    )
    if architecture["format"] != FORMAT:
        raise _Unexpected(f"format {architecture['format']!r}: expected {FORMAT}")
    name, arguments = architecture["class"], architecture["arguments"]
    if not isinstance(arguments, dict) or not _is_plain(arguments):
        raise _Unexpected("arguments: expected plain values by name")
    structure = _read_structure(architecture["structure"])
    cls = _find_class(name)
    try:
        if is_builder(cls):  # not all of its buffers are stored
            with _at_most(most_modules):
                network = cls(**arguments).construct()
                apply_structure(network, structure)
        else:
            with torch.device("meta"), _at_most(most_modules):
                network = cls(**arguments)
                apply_structure(network, structure)
    except (_Unexpected, ConfigError):
        raise
    except Exception as error:  # a constructor may raise anything for untrusted arguments
        raise _Unexpected(f"{name} can't be built with these arguments ({first_line(error)[:200]})") from None
    return network


def _other_version(architecture: Mapping[str, Any]) -> str:
    """Return a note if the installed library's version differs from the one that built the network."""
    then, now = architecture.get("library"), _library(_find_class(architecture["class"])).get("library")
    if not isinstance(then, dict) or then == now:
        return ""
    said = [", ".join(f"{name} {number}" for name, number in part.items()) for part in (then, now or {})]
    return f" (it was made with {said[0][:50]}; installed is {said[1]})"


def _find_class(name: Any) -> Any:
    if isinstance(name, str) and _CLASS.fullmatch(name):
        module, _, attribute = name.rpartition(".")
        cls: Any
        try:
            cls = getattr(importlib.import_module(module), attribute, None)
        except ImportError:
            cls = None
        fits = isinstance(cls, type) and (issubclass(cls, nn.Module) or is_builder(cls))
        if fits and cls.__module__ == module:
            return cls
    raise _Unexpected(f"class {str(name)[:100]!r}: expected a network of {PACKAGE}")


@contextmanager
def _at_most(modules: int) -> Iterator[None]:
    """Limit the number of modules that may be constructed."""
    count = 0

    def hook(*_: Any) -> None:
        nonlocal count
        count += 1
        if count > modules:
            raise _Unexpected(f"more than {modules} modules for the tensors that are stored")

    handle = register_module_module_registration_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _read_structure(part: Any) -> Structure:
    _expect_keys("structure", part, {"layers", "channels", "heads", "folded", "scattered"})
    for key, value in part.items():
        if not isinstance(value, list if key == "folded" else dict):
            raise _Unexpected(f"structure.{key}: expected an object")
    for name, layer in part["layers"].items():
        _expect_keys(f"layer {name}", layer, {"inputs", "outputs", "bias"})
        if not _is_count(layer["inputs"]) or not _is_count(layer["outputs"]) or not isinstance(layer["bias"], bool):
            raise _Unexpected(f"layer {name}: expected two sizes and whether there is a bias")
    for key in ("channels", "heads"):
        for name, count in part[key].items():
            if not _is_count(count):
                raise _Unexpected(f"structure.{key}.{name}: expected a size, got {str(count)[:50]}")
    if not all(isinstance(name, str) for name in part["folded"]) or len(set(part["folded"])) < len(part["folded"]):
        raise _Unexpected("structure.folded: expected names")
    for name, place in part["scattered"].items():
        _expect_keys(f"scattered {name}", place, {"dim", "channels", "index", "constant"})
        index = place["index"]
        good = (
            place["dim"] in (1, -1)
            and _is_count(place["channels"])
            and isinstance(place["constant"], bool)
            and isinstance(index, list)
            and all(type(i) is int and 0 <= i < place["channels"] for i in index)
            and all(a < b for a, b in pairwise(index))
        )
        if not good:
            raise _Unexpected(f"scattered {name}: expected rising indices below the number of channels")
    return Structure(**part)


def _expect_keys(what: str, part: Any, keys: set[str]) -> None:
    if not isinstance(part, dict):
        raise _Unexpected(f"{what}: expected an object")
    if part.keys() != keys:
        odd = sorted(part.keys() ^ keys)[0]
        raise _Unexpected(f"{what}: {'unknown' if odd in part else 'missing'} key {odd[:50]!r}")


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(part) for key, part in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _check_tensors(file: Path, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    shared = shared_names(network)
    expected = {
        key: value
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked") and key not in shared
    }
    for key in expected.keys() ^ tensors.keys():
        raise DamagedRun(f"{file}: tensor {key} is {'missing' if key in expected else 'not part of the network'}")
    for key, tensor in tensors.items():
        if tensor.shape != expected[key].shape or tensor.dtype != expected[key].dtype:
            got, want = (f"{t.dtype} {tuple(t.shape)}".removeprefix("torch.") for t in (tensor, expected[key]))
            raise DamagedRun(f"{file}: {key} is {got}, expected {want}")
