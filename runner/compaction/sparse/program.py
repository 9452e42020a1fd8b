"""Translate nodes into the operations of `kernels.c`, with all required arrays and offsets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from runner.compaction.sparse.choices import pixel_kernels, plane_kernels
from runner.compaction.sparse.graph import Gather, Input, Ints, MaxPool, Node, Taps, Term
from runner.compaction.sparse.layout import LANES, Layout, layouts
from runner.compaction.sparse.operations import GATHER, INTERLEAVE, LOAD, MAX_POOL, SPLIT, STORE, Op, Step

_ZEROS = 64  # floats at the arena's start that nothing writes to, and at its end that only unused lanes read


@dataclass(frozen=True)
class Buffer:
    """The position of a value in the arena, and its layout."""

    layout: Layout
    channels: int
    place: int
    source: tuple[int, ...] = ()  # what planes of every stride-th pixel were taken from; they fill some of the padding

    @property
    def first(self) -> int:
        """The offset of the first pixel."""
        return self.place + self.layout.origin


class Arena:
    """Allocates buffers, and reuses released buffers for values of the same layout.

    The zeros around the pixels of a reused buffer are already where they are needed.
    """

    def __init__(self) -> None:
        self.size = _ZEROS
        self._free: dict[tuple[Layout, int, tuple[int, ...]], list[int]] = {}

    def take(self, layout: Layout, channels: int, source: tuple[int, ...] = ()) -> Buffer:
        """Allocate a buffer for a number of planes."""
        free = self._free.get((layout, channels, source))
        if free:
            return Buffer(layout, channels, free.pop(), source)
        buffer = Buffer(layout, channels, self.size, source)
        size = channels * layout.plane + 4 * LANES
        self.size += -(-size // _ZEROS) * _ZEROS
        return buffer

    def give(self, buffer: Buffer) -> None:
        """Release a buffer that is no longer needed."""
        self._free.setdefault((buffer.layout, buffer.channels, buffer.source), []).append(buffer.place)

    @property
    def floats(self) -> int:
        """The number of floats to allocate."""
        return self.size + _ZEROS


class Builder:
    """Builds the operations for a sequence of nodes, each with its candidate kernels.

    Args:
        nodes: nodes in order of computation; a `Second` is computed by its `first`.
        kept: nodes whose values must be kept to the end.
        given: nodes whose values have already been computed.
    """

    def __init__(
        self, nodes: Sequence[Node], kept: set[Node], unit: int, arena: Arena, given: Sequence[Node] = ()
    ) -> None:
        self.nodes, self.kept, self.unit, self.arena = nodes, kept, unit, arena
        self.layouts = layouts([*given, *nodes], unit)
        self.buffers: dict[Node, Buffer] = {}
        self._splits: dict[tuple[Node, int, tuple[int, int]], Buffer] = {}
        for node in given:
            self._take(node)

    def steps(self) -> Iterator[list[Step]]:
        """Yield the alternative steps for each operation."""
        last = self._last_readers()
        for index, node in enumerate(self.nodes):
            if isinstance(node, Input):
                yield [self._moving(LOAD, "load", node, self._take(node))]
            elif isinstance(node, Taps):
                for term in node.terms:
                    yield from self._split(term, node)
                yield self._taps(node)
            elif isinstance(node, MaxPool):
                yield [self._max_pool(node)]
            elif isinstance(node, Gather):
                yield [self._gather(node)]
            for gone in last.get(index, ()):
                if gone in self.buffers:
                    self.arena.give(self.buffers.pop(gone))
            for key in [key for key in self._splits if key[0] in last.get(index, ())]:
                self.arena.give(self._splits.pop(key))

    def _last_readers(self) -> dict[int, list[Node]]:
        """Return, for each node index, the values that no later node reads."""
        last: dict[Node, int] = {}
        for index, node in enumerate(self.nodes):
            last.setdefault(node, index)
            for source in node.sources:
                last[source] = index
        found: dict[int, list[Node]] = {}
        for node, index in last.items():
            if node not in self.kept:
                found.setdefault(index, []).append(node)
        return found

    def _take(self, node: Node) -> Buffer:
        self.buffers[node] = self.arena.take(self.layouts[node.shape[1:]], node.shape[0])
        return self.buffers[node]

    def _moving(self, kind: int, kernel: str, node: Node, to: Buffer) -> Step:
        channels, height, width = node.shape
        step = Step(node, kernel, Op(kind=kind, unit=self.unit, channels=channels, height=height, width=width))
        step.op.out, step.op.out_plane, step.op.out_row = to.first, to.layout.plane, to.layout.row
        return step

    def storing(self, node: Node) -> Step:
        """Return the operation that writes a value to the results."""
        buffer = self.buffers[node]
        channels, height, width = node.shape
        step = Step(node, "store", Op(kind=STORE, unit=self.unit, channels=channels, height=height, width=width))
        step.op.in_, step.op.in_plane, step.op.in_row = buffer.first, buffer.layout.plane, buffer.layout.row
        return step

    def interleaving(self, node: Node, to: "Builder") -> Step:
        """Return the operation that copies one image's value to its place among a group's values in `to`."""
        step = self.storing(node)
        step.kernel, step.op.kind, step.op.unit = "interleave", INTERLEAVE, to.unit
        buffer = to.buffers[node]
        step.op.out, step.op.out_plane, step.op.out_row = buffer.first, buffer.layout.plane, buffer.layout.row
        return step

    def _split(self, term: Term, node: Taps) -> Iterator[list[Step]]:
        """Yield the operation that extracts planes with every stride-th pixel, unless they already exist."""
        size = (node.shape[1], node.shape[2])
        key = (term.source, term.stride, size)
        if term.stride == 1 or size == (1, 1) or key in self._splits or not len(term.filters):
            return
        stride, layout, source = term.stride, self.layouts[size], self.buffers[term.source]
        terms = [t for n in self.nodes if isinstance(n, Taps) and n.shape[1:] == size for t in n.terms]
        terms = [t for t in terms if t.source is term.source and t.stride == stride and len(t.filters)]
        buffer = self.arena.take(layout, term.source.shape[0] * stride**2, (*term.source.shape, stride))
        self._splits[key] = buffer
        step = self._moving(SPLIT, "split", term.source, buffer)
        step.node = node
        op = step.op
        op.in_, op.in_plane, op.in_row, op.stride = source.first, source.layout.plane, source.layout.row, stride
        op.extent_rows = size[0] + max(max(0, int((t.dy // stride).max())) for t in terms)
        op.extent_columns = size[1] + max(max(0, int((t.dx // stride).max())) for t in terms)
        for t in terms:
            for phase in np.unique(t.dy % stride * stride + t.dx % stride):
                op.phases |= 1 << int(phase)
        yield [step]

    def _offsets(self, term: Term, node: Taps) -> tuple[Ints, int]:
        """Return the offset of each tap for the first pixel of the result, and the distance to the row below."""
        size, stride = (node.shape[1], node.shape[2]), term.stride
        if stride == 1 or size == (1, 1):
            buffer = self.buffers[term.source]
            return buffer.place + buffer.layout.offset(term.channels, term.dy, term.dx), buffer.layout.row  # type: ignore[arg-type, return-value]
        buffer = self._splits[term.source, stride, size]
        plane = term.channels * stride**2 + term.dy % stride * stride + term.dx % stride
        return buffer.place + buffer.layout.offset(plane, term.dy // stride, term.dx // stride), buffer.layout.row  # type: ignore[arg-type, return-value]

    def _taps(self, node: Taps) -> list[Step]:
        layout = self.layouts[node.shape[1:]]
        offsets, rows = [], set()
        for term in node.terms:
            if len(term.filters):
                offset, row = self._offsets(term, node)
                offsets.append(offset)
                rows.add(row)
        terms = [term for term in node.terms if len(term.filters)]
        filters, position, weights = _joined(terms, offsets)
        wanted = self.kept | {source for later in self.nodes for source in later.sources if later is not node.second}
        step = Step(node, "", Op(unit=self.unit, channels=node.shape[0], height=node.shape[1], width=node.shape[2]))
        op = step.op
        op.out = op.second = -1
        if node in wanted or node.second is None:
            op.out = self._take(node).first
        if node.second is not None:
            op.second = self._take(node.second).first
            op.second_relu = node.second.relu
        op.out_plane, op.out_row, op.relu = layout.plane, layout.row, node.relu
        flat = layout.flat and rows <= {layout.row}
        op.rows, op.vectors = (1, layout.flat_vectors) if flat else (layout.height, layout.row_vectors)
        op.in_row = max(rows, default=0)
        step.point("bias", _padded(node.bias, 32).astype(np.float32))
        if node.second is not None and node.second.scale is not None:
            step.point("scale", _padded(node.second.scale, 32).astype(np.float32))
            assert node.second.shift is not None
            step.point("shift", _padded(node.second.shift, 32).astype(np.float32))
        if self.unit == 1 and node.shape[1:] == (1, 1):
            return [*pixel_kernels(step, filters, position, weights)]
        mask = layout.mask(flat)
        if mask is not None:
            step.point("mask", mask)
        # Row by row in a flat layout, a row's last vector reaches into the next row, which must be written later.
        return [*plane_kernels(step, filters, position, weights, single_rows=layout.flat and not flat)]

    def _max_pool(self, node: MaxPool) -> Step:
        source = self.buffers[node.source]
        step = self._moving(MAX_POOL, "max pool", node, self._take(node))
        op = step.op
        op.in_, op.in_plane, op.in_row = source.first, source.layout.plane, source.layout.row
        op.in_height, op.in_width = node.source.shape[1:]
        op.size, op.stride, op.padding = node.size, node.stride, node.padding
        return step

    def _gather(self, node: Gather) -> Step:
        source = self.buffers[node.source]
        step = self._moving(GATHER, "gather", node, self._take(node))
        channel, y, x = np.unravel_index(node.index.ravel(), node.source.shape)
        step.point("offsets", (source.place + source.layout.offset(channel, y, x)).astype(np.int32))  # type: ignore[arg-type, attr-defined]
        return step


def _joined(terms: Sequence[Term], offsets: Sequence[Ints]) -> tuple[Ints, np.ndarray, np.ndarray]:
    """Join the taps of all terms, sorted by filter and source. Return their filters, (offset, order) and weights.

    The order is the same for every layout, so that sums are equal to the last bit.
    """
    if not terms:
        return np.zeros(0, np.int64), np.zeros((0, 2), np.int64), np.zeros(0)
    filters = np.concatenate([term.filters for term in terms])
    order, first = [], 0
    for term in terms:
        dy, dx = term.dy - term.dy.min(), term.dx - term.dx.min()
        span = (term.source.shape[0], int(dy.max()) + 1, int(dx.max()) + 1)
        order.append(first + np.ravel_multi_index((term.channels, dy, dx), span))
        first += int(np.prod(span))
    places = np.concatenate(order)
    sequence = np.lexsort((places, filters))
    position = np.stack([np.concatenate(offsets), places], 1)[sequence]
    return filters[sequence], position, np.concatenate([term.weights for term in terms])[sequence]


def _padded(values: np.ndarray, multiple: int) -> np.ndarray:
    return np.pad(values, (0, -len(values) % multiple))
