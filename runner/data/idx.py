"""Read files in MNIST's idx format, i.e. a big-endian header followed by bytes, optionally gzipped."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runner.data.errors import DataError, one_line

UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array of bytes in an idx file.

    Args:
        path: the file, decompressed if its name ends in .gz.
        dimensions: the expected number of dimensions.

    Raises:
        DataError: the magic number, number of dimensions or size is not as expected, or the gzip stream is damaged.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged or truncated gzip file: {one_line(error)}") from error
    magic = bytes((0, 0, UNSIGNED_BYTE, dimensions))
    if content[:4] != magic:
        raise DataError(
            f"{path} begins with bytes {content[:4].hex()}; expected {magic.hex()} for this kind of idx file"
        )
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(f"{path} ends inside its header, after {len(content)} of {start} bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise DataError(f"{path} holds {len(content)} bytes; expected {expected} from its header")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()
