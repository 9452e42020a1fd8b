"""The candidate kernels for a node's sums, with their arrays."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from runner.compaction.sparse.graph import Ints
from runner.compaction.sparse.layout import LANES
from runner.compaction.sparse.operations import BLOCKS, COLUMNS, ROWS, TAP, TAPS, Op, Step

# Rows and vectors of the blocks for which kernels.c is compiled.
_TAPS_BLOCKS = (
    *((2, 4), (4, 2), (8, 1), (1, 8), (7, 1), (1, 7), (2, 3)),
    *((1, 4), (2, 2), (4, 1), (1, 3), (1, 2), (2, 1), (1, 1)),
)
_FILTER_BLOCKS = ((4, 3, 1), (4, 1, 3), (4, 2, 1), (4, 1, 2), (8, 1, 1), (4, 1, 1))


def _starts(filters: Ints, count: int) -> np.ndarray:
    return np.searchsorted(filters, np.arange(count + 1)).astype(np.int32)


def _copy(step: Step, kernel: str, kind: int) -> Step:
    op = Op.from_buffer_copy(step.op)
    op.kind = kind
    return Step(step.node, kernel, op, [*step.arrays])


def _shared(filters: Ints, position: np.ndarray, weights: np.ndarray, block: int, count: int) -> tuple[np.ndarray, ...]:
    """Return starts, offsets and weights (taps, block) of the union of the taps in each block of filters."""
    starts, offsets, values = [0], [], []
    bounds = np.searchsorted(filters, np.arange(0, count + block, block))
    for index, (first, last) in enumerate(pairwise(bounds)):
        places, which, inverse = np.unique(position[first:last, 1], return_index=True, return_inverse=True)
        matrix = np.zeros((len(places), block), np.float32)
        matrix[inverse, filters[first:last] - index * block] = weights[first:last]
        offsets.append(position[first:last, 0][which])
        values.append(matrix)
        starts.append(starts[-1] + len(places))
    return np.array(starts, np.int32), np.concatenate(offsets).astype(np.int32), np.concatenate(values)


def plane_kernels(
    step: Step, filters: Ints, position: np.ndarray, weights: np.ndarray, single_rows: bool
) -> Iterator[Step]:
    """Yield kernels with separate taps for each filter or shared taps for blocks of filters, in both loop orders."""
    op, count = step.op, step.op.channels
    pixels = op.rows * op.vectors * LANES

    def fastest(blocks: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
        """Return the block (filters, rows, vectors) that needs the fewest instructions; the last blocks overlap."""

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
        return  # few shared taps, so it would be slower
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


def pixel_kernels(step: Step, filters: Ints, position: np.ndarray, weights: np.ndarray) -> Iterator[Step]:
    """Yield kernels for single-pixel results: 8 filters with separate taps, or 8, 16 or 32 filters with shared taps."""
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
