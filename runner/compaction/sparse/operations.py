"""The structures of `kernels.c` as ctypes."""

import ctypes
from dataclasses import dataclass, field

import numpy as np

from runner.compaction.sparse.graph import Node

LOAD, STORE, TAPS, BLOCKS, COLUMNS, ROWS, SPLIT, MAX_POOL, GATHER, INTERLEAVE = range(10)
SUMS = ("taps", "blocks", "rows", "columns")  # kernels that multiply; the others move data
TAP = np.dtype([("offset", np.int32), ("weight", np.float32)])  # `tap`
_NUMBERS = (
    "kind unit channels height width in_ in_plane in_row out out_plane out_row second relu second_relu rows vectors "
    "block_rows block_vectors block_filters filters_outside size stride padding in_height in_width extent_rows "
    "extent_columns phases"
)
_POINTERS = "start taps offsets weights bias scale shift mask"


class Op(ctypes.Structure):
    """The structure `op` of kernels.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS.split()),
        *((name, ctypes.c_void_p) for name in _POINTERS.split()),
    )


class Program(ctypes.Structure):
    """The structure `program` of kernels.c."""

    _fields_ = (
        ("group", ctypes.c_int64),
        ("single_count", ctypes.c_int64),
        ("grouped_count", ctypes.c_int64),
        ("single", ctypes.POINTER(Op)),
        ("grouped", ctypes.POINTER(Op)),
        ("input_size", ctypes.c_int64),
        ("output_size", ctypes.c_int64),
    )


@dataclass
class Step:
    """One operation of a program, with the arrays that it points to.

    Args:
        kernel: name of the kernel in tables.
        arrays: the arrays that the operation points to.
        work: number of multiplications, including those by zero weights that the kernel doesn't skip.
    """

    node: Node
    kernel: str
    op: Op
    arrays: list[np.ndarray] = field(default_factory=list)
    work: int = 0

    def point(self, name: str, array: np.ndarray) -> None:
        """Set a field of the operation to the address of an array."""
        array = np.ascontiguousarray(array)
        self.arrays.append(array)
        setattr(self.op, name, array.ctypes.data)
