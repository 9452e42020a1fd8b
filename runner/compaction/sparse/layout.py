"""The memory layout of values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runner.compaction.sparse.graph import Node, Taps

LANES = 8  # floats per vector
_LINE = 16  # floats per cache line


@dataclass(frozen=True)
class Layout:
    """The memory layout of all values with the same height and width. Distances are in floats.

    Args:
        unit: number of images that are interleaved pixel by pixel.
        origin: offset of the first pixel in its plane.
        row: distance from a pixel to the one below it.
        plane: distance from a pixel to the same pixel of the next channel.
        flat: whether a plane is processed as one run of vectors, including the zeros between its rows, because this
            takes fewer vectors than row by row.
    """

    height: int
    width: int
    unit: int
    origin: int
    row: int
    plane: int
    flat: bool

    def offset(self, channel: int, y: int, x: int) -> int:
        """Return a pixel's offset in the buffer. Arrays and pixels in the padding are also supported."""
        return self.origin + channel * self.plane + y * self.row + x * self.unit

    @property
    def row_vectors(self) -> int:
        """The number of vectors that hold a row."""
        return -(-self.width * self.unit // LANES)

    @property
    def flat_vectors(self) -> int:
        """The number of vectors that hold a plane if it is read as one run."""
        return -(-((self.height - 1) * self.row + self.width * self.unit) // LANES)

    def mask(self, flat: bool) -> np.ndarray | None:
        """Return -1 for each lane of a row (or plane) that is a pixel and 0 for padding; None without padding."""
        lanes = np.arange((self.flat_vectors if flat else self.row_vectors) * LANES)
        inside = lanes < self.width * self.unit
        if flat:
            inside = (lanes % self.row < self.width * self.unit) & (lanes // self.row < self.height)
        return None if inside.all() else np.where(inside, -1, 0).astype(np.int32)


@dataclass
class _Padding:
    """The padding that is needed around the pixels of values of one size by the nodes that read them."""

    top: int = 0
    bottom: int = 0
    sides: int = 0  # left or right, since the right padding is also the next row's left padding
    beyond: int = 0  # columns right of the image that a strided reader's planes may fill

    def widen(self, top: int, bottom: int, left: int, right: int, beyond: int = 0) -> None:
        self.top, self.bottom = max(self.top, top), max(self.bottom, bottom)
        self.sides, self.beyond = max(self.sides, left, right), max(self.beyond, beyond)


def layouts(nodes: Sequence[Node], unit: int) -> dict[tuple[int, int], Layout]:
    """Return the layout for each height and width.

    All values of the same size share a layout, so that sums need no copies.
    """
    paddings: dict[tuple[int, int], _Padding] = {}
    for node in nodes:
        paddings.setdefault(node.shape[1:], _Padding())
    for node in nodes:
        if not isinstance(node, Taps) or node.shape[1:] == (1, 1):
            continue  # one pixel reads no padding
        height, width = node.shape[1:]
        for term in node.terms:
            if not len(term.filters):
                continue
            if term.stride == 1:
                padding = paddings.setdefault(term.source.shape[1:], _Padding())
                below = int(term.dy.max()) + height - term.source.shape[1]
                right = int(term.dx.max()) + width - term.source.shape[2]
                padding.widen(-int(term.dy.min()), below, -int(term.dx.min()), right)
            else:
                dy, dx = term.dy // term.stride, term.dx // term.stride
                right = max(0, int(dx.max()))
                paddings[node.shape[1:]].widen(-int(dy.min()), int(dy.max()), -int(dx.min()), right, right)
    return {size: _layout(*size, unit, padding) for size, padding in paddings.items()}


def _layout(height: int, width: int, unit: int, padding: _Padding) -> Layout:
    if (height, width) == (1, 1):
        return Layout(1, 1, unit, 0, unit, unit, False)
    sides, rows = padding.sides, height + padding.top + padding.bottom
    if unit > 1:
        row = (width + padding.beyond + sides) * unit
        origin = padding.top * row + sides * unit
        return Layout(height, width, unit, origin, row, _spread(rows * row + sides * unit + LANES), False)
    by_rows = max(_up(width, LANES), width + padding.beyond) + sides
    run = width + padding.beyond + sides
    flat = -(-((height - 1) * run + width) // LANES) < 0.9 * height * -(-width // LANES)
    row = run if flat else by_rows
    plane = _spread(rows * row + 2 * sides + 2 * LANES)
    return Layout(height, width, 1, padding.top * row + sides, row, plane, flat)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _spread(size: int) -> int:
    """Round up to an odd number of cache lines, because planes a power of two apart would use few sets of the cache."""
    lines = -(-size // _LINE)
    return (lines | 1) * _LINE
