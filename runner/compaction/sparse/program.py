"""Nodes into the operations of `kernels.c`, with every array and offset they need."""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from runner.compaction.sparse.graph import Gather, Input, Ints, MaxPool, Node, Second, Taps, Term
from runner.compaction.sparse.layout import LANES, Layout, layouts

LOAD, STORE, TAPS, BLOCKS, COLUMNS, ROWS, SPLIT, MAX_POOL, GATHER, INTERLEAVE = range(10)
_ZEROS = 64  # floats at the arena's start that nothing writes to, and at its end that only unused lanes read

# Rows and vectors of the blocks that kernels.c is compiled for.
_TAPS_BLOCKS = (
    *((2, 4), (4, 2), (8, 1), (1, 8), (7, 1), (1, 7), (2, 3)),
    *((1, 4), (2, 2), (4, 1), (1, 3), (1, 2), (2, 1), (1, 1)),
)
_FILTER_BLOCKS = ((4, 3, 1), (4, 1, 3), (4, 2, 1), (4, 1, 2), (8, 1, 1), (4, 1, 1))
TAP = np.dtype([("offset", np.int32), ("weight", np.float32)])


class Op(ctypes.Structure):
    """`op` of kernels.c."""

    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in (
                "kind unit channels height width in_ in_plane in_row out out_plane out_row second relu second_relu "
                "rows vectors block_rows block_vectors block_filters filters_outside size stride padding "
                "in_height in_width extent_rows extent_columns phases"
            ).split()
        ),
        *(
            (name, ctypes.c_void_p)
            for name in ("start", "taps", "offsets", "weights", "bias", "scale", "shift", "mask")
        ),
    )


class Program(ctypes.Structure):
    """`program` of kernels.c."""

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
    """One operation.

    Args:
        kernel: its name in tables.
        arrays: what the operation points to.
        work: multiplications, of zero weights that a kernel doesn't leave out, too.
    """

    node: Node
    kernel: str
    op: Op
    arrays: list[np.ndarray] = field(default_factory=list)
    work: int = 0

    def point(self, name: str, array: np.ndarray) -> None:
        """Let a field of the operation point to an array."""
        array = np.ascontiguousarray(array)
        self.arrays.append(array)
        setattr(self.op, name, array.ctypes.data)


@dataclass(frozen=True)
class Buffer:
    """Where a value lies: its layout, from a place in the arena on."""

    layout: Layout
    channels: int
    place: int
    source: tuple[int, ...] = ()  # what planes of every stride-th pixel were taken from; they fill some of the padding

    @property
    def first(self) -> int:
        """Of the first pixel."""
        return self.place + self.layout.origin


class Arena:
    """Places for buffers; one that isn't needed any more is taken again by one of the same layout.

    The zeros around its pixels then stand where the next one needs them.
    """

    def __init__(self) -> None:
        self.size = _ZEROS
        self._free: dict[tuple[Layout, int, tuple[int, ...]], list[int]] = {}

    def take(self, layout: Layout, channels: int, source: tuple[int, ...] = ()) -> Buffer:
        """A place for so many planes."""
        free = self._free.get((layout, channels, source))
        if free:
            return Buffer(layout, channels, free.pop(), source)
        buffer = Buffer(layout, channels, self.size, source)
        size = channels * layout.plane + 4 * LANES
        self.size += -(-size // _ZEROS) * _ZEROS
        return buffer

    def give(self, buffer: Buffer) -> None:
        """Not needed any more."""
        self._free.setdefault((buffer.layout, buffer.channels, buffer.source), []).append(buffer.place)

    @property
    def floats(self) -> int:
        """What to allocate."""
        return self.size + _ZEROS


class Builder:
    """The operations for a run of nodes, each with the kernels that it may use.

    Args:
        nodes: in order; a `Second` is made by its first.
        kept: nodes whose values must stay to the end.
        given: values that are there already.
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
        """For each operation the ways to do it, to choose from."""
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
        """Index → the values that no later node reads."""
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
        """The operation that writes a value out."""
        buffer = self.buffers[node]
        channels, height, width = node.shape
        step = Step(node, "store", Op(kind=STORE, unit=self.unit, channels=channels, height=height, width=width))
        step.op.in_, step.op.in_plane, step.op.in_row = buffer.first, buffer.layout.plane, buffer.layout.row
        return step

    def interleaving(self, node: Node, to: "Builder") -> Step:
        """The operation that puts a value of one image among those of a group, which `to` has been given."""
        step = self.storing(node)
        step.kernel, step.op.kind, step.op.unit = "interleave", INTERLEAVE, to.unit
        buffer = to.buffers[node]
        step.op.out, step.op.out_plane, step.op.out_row = buffer.first, buffer.layout.plane, buffer.layout.row
        return step

    def _split(self, term: Term, node: Taps) -> Iterator[list[Step]]:
        """Planes of every stride-th pixel, unless they are there."""
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
        """Of each tap for the first pixel of the result, and the step to the row below."""
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
            return [*_pixel_kernels(step, filters, position, weights)]
        mask = layout.mask(flat)
        if mask is not None:
            step.point("mask", mask)
        # Row by row in a layout of runs, a row's last vector reaches into the next row, which must be written later.
        return [*_plane_kernels(step, filters, position, weights, single_rows=layout.flat and not flat)]

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
    """Filters, (offset, order) and weights of all terms' taps, by filter; of equal filter in the order of the sources.

    The order is the same for every layout, so that sums come out the same to the last bit.
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


def _starts(filters: Ints, count: int) -> np.ndarray:
    return np.searchsorted(filters, np.arange(count + 1)).astype(np.int32)


def _copy(step: Step, kernel: str, kind: int) -> Step:
    op = Op.from_buffer_copy(step.op)
    op.kind = kind
    return Step(step.node, kernel, op, [*step.arrays])


def _shared(filters: Ints, position: np.ndarray, weights: np.ndarray, block: int, count: int) -> tuple[np.ndarray, ...]:
    """For blocks of so many filters: starts, offsets and weights (taps, block) of the taps that any of them has."""
    starts, offsets, values = [0], [], []
    bounds = np.searchsorted(filters, np.arange(0, count + block, block))
    for index, (first, last) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        places, which, inverse = np.unique(position[first:last, 1], return_index=True, return_inverse=True)
        matrix = np.zeros((len(places), block), np.float32)
        matrix[inverse, filters[first:last] - index * block] = weights[first:last]
        offsets.append(position[first:last, 0][which])
        values.append(matrix)
        starts.append(starts[-1] + len(places))
    return np.array(starts, np.int32), np.concatenate(offsets).astype(np.int32), np.concatenate(values)


def _plane_kernels(
    step: Step, filters: Ints, position: np.ndarray, weights: np.ndarray, single_rows: bool
) -> Iterator[Step]:
    """Filter by filter with its own taps, or blocks of filters with common ones; each with either loop outside."""
    op, count = step.op, step.op.channels
    pixels = op.rows * op.vectors * LANES

    def fastest(blocks: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
        """Filters, rows, vectors: the fewest instructions for all, the last block overlapping the one before."""

        def cost(block: tuple[int, int, int]) -> float:
            f, r, v = block
            return -(-count // f) * -(-op.rows // r) * -(-op.vectors // v) * (f * r * v + 1 + 0.5 * (f + r * v))

        fitting = [b for b in blocks if b[1] <= (1 if single_rows else op.rows) and b[2] <= op.vectors]
        return min(fitting, key=cost)

    taps = np.empty(len(filters), TAP)
    taps["offset"], taps["weight"] = position[:, 0], weights
    one = _copy(step, "taps", TAPS)
    _, one.op.block_rows, one.op.block_vectors = fastest([(1, r, v) for r, v in _TAPS_BLOCKS])
    one.point("start", _starts(filters, count))
    one.point("taps", taps)
    one.work = len(filters) * pixels
    yield from _both_orders(one)

    block = fastest(_FILTER_BLOCKS)
    starts, offsets, values = _shared(filters, position, weights, block[0], count)
    if values.size > 8 * len(filters):
        return  # few taps in common: it would be slower
    several = _copy(step, "blocks", BLOCKS)
    several.op.block_filters, several.op.block_rows, several.op.block_vectors = block
    several.point("start", starts)
    several.point("offsets", offsets)
    several.point("weights", values)
    several.work = values.size * pixels
    yield from _both_orders(several)


def _both_orders(step: Step) -> Iterator[Step]:
    yield step
    if step.op.rows > step.op.block_rows or step.op.vectors > step.op.block_vectors:
        other = _copy(step, step.kernel, step.op.kind)
        other.op.filters_outside, other.work = 1, step.work
        yield other


def _pixel_kernels(step: Step, filters: Ints, position: np.ndarray, weights: np.ndarray) -> Iterator[Step]:
    """For results of one pixel: 8 filters with taps of their own side by side, or 8, 16, 32 with common ones."""
    count = step.op.channels
    starts = _starts(filters, -(-count // LANES) * LANES)
    longest = np.diff(starts).reshape(-1, LANES).max(1)  # of each group of 8
    first = np.concatenate([[0], np.cumsum(longest)])
    offsets, values = np.zeros((first[-1], LANES), np.int32), np.zeros((first[-1], LANES), np.float32)
    place = first[filters // LANES] + np.arange(len(filters)) - starts[filters]
    offsets[place, filters % LANES], values[place, filters % LANES] = position[:, 0], weights
    own = _copy(step, "rows", ROWS)
    own.point("start", first.astype(np.int32))
    own.point("offsets", offsets)
    own.point("weights", values)
    own.work = values.size
    yield own

    block = 8 if count <= 8 else 16 if count <= 16 else 32
    starts, offsets, values = _shared(filters, position, weights, block, count)
    if values.size > 16 * len(filters):
        return
    common = _copy(step, "columns", COLUMNS)
    common.op.block_filters = block
    common.point("start", starts)
    common.point("offsets", offsets)
    common.point("weights", values)
    common.work = values.size
    yield common


__all__ = ["Arena", "Buffer", "Builder", "Op", "Program", "Second", "Step"]
