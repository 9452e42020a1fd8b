"""Packed files, which store only the values and positions of non-zero weights.

A packed file is one safetensors file with at most six tensors:

- `layout`: JSON, compressed with zlib: [name, shape, coding, number of codes] for each stored tensor, in order, and the
  architecture, if there is one;
- `values` and `half`: all values, concatenated, as float32 and float16;
- `masks`: one bit per weight, the first in the highest bit;
- `gaps8` and `gaps16`: the number of zeros before each value, in the order of the flattened weight; the largest code
  (255 or 65535) stands for that many zeros without a value.

Each tensor uses the coding that takes the fewest bytes.
"""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from runner.errors import DamagedRun, first_line
from runner.files import write_bytes

FORMAT = 1
MOST_ELEMENTS = 2**31
_LONGEST_LAYOUT = 2**24
_GAPS: dict[str, Any] = {"gaps8": np.uint8, "gaps16": np.uint16}
_TYPES: dict[str, Any] = {"layout": np.uint8, "values": np.float32, "half": np.float16, "masks": np.uint8, **_GAPS}


@dataclass
class Packed:
    """The content of a packed file: dense tensors by name, and the architecture that `save_packed` was given."""

    tensors: dict[str, Tensor]
    architecture: Any


def pack(tensors: Mapping[str, Tensor], half: bool = False, architecture: Any = None) -> bytes:
    """Return the content of a packed file.

    Args:
        tensors: float32 tensors of any shape, or integer scalars (BatchNorm's `num_batches_tracked`).
        half: store the values of matrices (tensors with two or more dimensions) as float16, which rounds them.
        architecture: the architecture to store, as plain values.

    Raises:
        ValueError: a tensor is of another kind.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in _TYPES}
    layout: list[list[Any]] = []
    for name, tensor in tensors.items():
        if tensor.dim() == 0 and not tensor.is_floating_point():
            layout.append([name, [], "number", int(tensor)])
            continue
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} is {tensor.dtype}: expected float32")
        values = tensor.detach().cpu().contiguous().numpy().reshape(-1)
        halved = half and tensor.dim() > 1
        # Bits are compared, so that a negative zero is kept.
        positions = np.flatnonzero(values.astype(np.float16).view(np.uint16) if halved else values.view(np.uint32))
        coding, codes = _smallest(positions, len(values), 2 if halved else 4)
        kept = values if coding == "dense" else values[positions]
        parts["half" if halved else "values"].append(kept)
        if coding != "dense":
            parts["masks" if coding == "mask" else coding].append(codes)
        layout.append([name, list(tensor.shape), coding + (" half" if halved else ""), len(codes)])
    text = json.dumps(
        {"format": FORMAT, "architecture": architecture, "tensors": layout}, separators=(",", ":")
    ).encode()
    parts["layout"].append(np.frombuffer(zlib.compress(text, 9), np.uint8))
    return save({name: np.concatenate(found).astype(_TYPES[name]) for name, found in parts.items() if found})


def save_packed(path: Path, tensors: Mapping[str, Tensor], half: bool = False, architecture: Any = None) -> int:
    """Write a packed file and return its size in bytes; for arguments, see `pack`."""
    content = pack(tensors, half, architecture)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return len(content)


def load_packed(path: str | Path) -> Packed:
    """Load the dense tensors of a packed file; float32 values are restored bit for bit.

    Raises:
        DamagedRun: the file is missing, damaged or not a packed file.
    """
    try:
        stored = load(Path(path).read_bytes())
        return _unpack(stored)
    except OSError as error:
        raise DamagedRun(f"{path}: {error.strerror}") from None
    except (SafetensorError, zlib.error, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise DamagedRun(f"{path} is not a packed file, or is damaged ({first_line(error)[:100]})") from None


def _smallest(positions: np.ndarray, total: int, value_size: int) -> tuple[str, np.ndarray]:
    """Return the coding that takes the fewest bytes, and its codes."""
    none = np.empty(0, np.uint8)
    if len(positions) == total:
        return "dense", none
    mask = np.zeros(total, bool)
    mask[positions] = True
    codings = {"mask": np.packbits(mask), **{name: _encode_gaps(positions, kind) for name, kind in _GAPS.items()}}
    best = min(codings, key=lambda name: codings[name].nbytes)
    if codings[best].nbytes + len(positions) * value_size < total * value_size:
        return best, codings[best]
    return "dense", none


def _encode_gaps(positions: np.ndarray, kind: Any) -> np.ndarray:
    most = np.iinfo(kind).max
    skips, rest = np.divmod(np.diff(positions, prepend=-1) - 1, most)
    codes = np.full(int(skips.sum()) + len(positions), most, kind)
    codes[np.cumsum(skips + 1) - 1] = rest
    return codes


def _decode_gaps(codes: np.ndarray) -> np.ndarray:
    most = np.iinfo(codes.dtype).max
    steps = codes.astype(np.int64)
    steps[codes != most] += 1
    return (np.cumsum(steps) - 1)[codes != most]


class _Reader:
    """Reads stored tensors piece by piece."""

    def __init__(self, stored: Mapping[str, np.ndarray]) -> None:
        for name, array in stored.items():
            if array.dtype != _TYPES[name] or array.ndim != 1:
                raise ValueError(f"{name} is {array.dtype} {array.shape}")
        self.stored, self.at = stored, dict.fromkeys(stored, 0)

    def take(self, name: str, count: int) -> np.ndarray:
        if count == 0:
            return np.empty(0, _TYPES[name])
        first = self.at[name]
        self.at[name] += count
        if count < 0 or self.at[name] > len(self.stored[name]):
            raise ValueError(f"{name} ends too early")
        return self.stored[name][first : self.at[name]]

    def finish(self) -> None:
        for name, at in self.at.items():
            if at != len(self.stored[name]):
                raise ValueError(f"{name} is longer than the layout says")


def _unpack(stored: Mapping[str, np.ndarray]) -> Packed:
    reader = _Reader(stored)
    inflate = zlib.decompressobj()
    text = inflate.decompress(reader.take("layout", len(stored["layout"])).tobytes(), _LONGEST_LAYOUT)
    if not inflate.eof:
        raise ValueError("the layout doesn't end")
    layout = json.loads(text)
    if layout["format"] != FORMAT:
        raise ValueError(f"format {layout['format']}: expected {FORMAT}")
    tensors, elements = {}, 0
    for name, shape, coding, codes in layout["tensors"]:
        if not isinstance(name, str) or any(type(n) is not int or n < 0 for n in [*shape, codes]):
            raise ValueError("a shape is not a list of whole numbers")
        if coding == "number":
            tensors[name] = torch.tensor(codes)
            continue
        total = math.prod(shape)
        elements += total
        if elements > MOST_ELEMENTS:
            raise ValueError(f"more than {MOST_ELEMENTS:,} weights")
        tensors[name] = torch.from_numpy(_decode(reader, total, codes, *coding.split())).view(shape)
    reader.finish()
    return Packed(tensors, layout["architecture"])


def _decode(reader: _Reader, total: int, codes: int, coding: str, half: str = "") -> np.ndarray:
    source = {"": "values", "half": "half"}[half]
    if coding == "dense":
        return reader.take(source, total).astype(np.float32)
    if coding == "mask":
        bits = np.unpackbits(reader.take("masks", codes))
        if len(bits) < total or codes != -(-total // 8):
            raise ValueError("a mask and its weight differ in length")
        positions = np.flatnonzero(bits[:total])
    else:
        positions = _decode_gaps(reader.take({name: name for name in _GAPS}[coding], codes))
        if len(positions) and positions[-1] >= total:
            raise ValueError("a position lies outside its weight")
    dense = np.zeros(total, np.float32)
    dense[positions] = reader.take(source, len(positions))
    return dense
