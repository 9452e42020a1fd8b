"""Translate PyTorch's pooling and views into nodes of `graph`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from runner.compaction.sparse.graph import Gather, MaxPool, Shape, Taps, Term, diagonal, touching
from runner.compaction.sparse.rules import Rules, Value

_BATCH = object()  # x.shape[0]


class ShapeRules(Rules):
    """Rules for operations that change the shape."""

    def max_pool(
        self,
        x: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Value:
        size, padding = self._one(kernel_size), self._one(padding)
        stride = size if stride in (None, []) else self._one(stride)
        if self._one(dilation) != 1 or return_indices:
            raise self.refuse("a dilated pool, or one that returns indices")
        channels, *image = x.node.shape
        height, width = (_pooled(length, size, stride, padding, ceil_mode) for length in image)
        return Value(MaxPool(self.name, (channels, height, width), x.node, size, stride, padding), flat=False)

    def average_pool(
        self,
        x: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        size, padding = self._one(kernel_size), self._one(padding)
        stride = size if stride in (None, []) else self._one(stride)
        if ceil_mode or (padding and not count_include_pad):
            raise self.refuse("an average of windows of different sizes")
        channels, *image = x.node.shape
        shape = (channels, *(_pooled(length, size, stride, padding, False) for length in image))
        return self._average(x, shape, (size, size), stride, padding, 1 / (divisor_override or size * size))  # type: ignore[arg-type]

    def adaptive_average(self, x: Value, output_size: Any) -> Value:
        sizes = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
        channels, height, width = x.node.shape
        rows, columns = sizes[0] or height, sizes[1] or width
        factor = height // rows
        if height % rows or width % columns or ((rows, columns) != (1, 1) and width // columns != factor):
            raise self.refuse("an average of windows of different sizes")
        window = (height // rows, width // columns)
        return self._average(x, (channels, rows, columns), window, max(window), 0, 1 / (window[0] * window[1]))

    def mean(self, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
        dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
        if x.flat or {d % 4 for d in dims} != {2, 3}:
            raise self.refuse("a mean over dimensions other than height and width")
        return replace(self.adaptive_average(x, 1), flat=not keepdim)

    def _average(
        self, x: Value, shape: Shape, window: tuple[int, int], stride: int, padding: int, weight: float
    ) -> Value:
        c, dy, dx = (index.ravel() for index in np.indices((shape[0], *window)))
        term = Term(x.node, stride, c, c, dy - padding, dx - padding, np.full(c.shape, weight))
        if shape[1:] == (1, 1):
            term.stride = 1
        return Value(Taps(self.name, shape, [touching(term, shape)], np.zeros(shape[0])), flat=False)

    def _one(self, size: Any) -> int:
        sizes = {*size} if isinstance(size, tuple | list) else {size}
        if len(sizes) != 1:
            raise self.refuse("a pool with two sizes")
        return int(sizes.pop())

    def flatten(self, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
        if x.flat or start_dim != 1 or end_dim not in (-1, 3):
            raise self.refuse("flattening anything other than whole images")
        return replace(x, flat=True)

    def view(self, x: Value, *shape: Any) -> Value:
        sizes = list(shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape)
        total = int(np.prod(x.node.shape))
        if len(sizes) not in (2, 4) or (sizes[0] is not _BATCH and sizes[0] != -1):
            raise self.refuse(f"a view of shape {shape}")
        rest = sizes[1:]
        if -1 in rest:
            rest[rest.index(-1)] = total // -int(np.prod(rest))
        if not all(isinstance(size, int) for size in rest) or int(np.prod(rest)) != total:
            raise self.refuse(f"a view of shape {shape}")
        if len(rest) == 1:
            return replace(x, flat=True)
        wanted = (rest[0], rest[1], rest[2])
        if wanted == x.node.shape:
            return replace(x, flat=False)
        return Value(Gather(self.name, wanted, x.node, np.arange(total).reshape(wanted)), flat=False)

    def item(self, x: Any, index: Any) -> Any:
        if not isinstance(x, Value):
            return x[index]
        if x.flat or not isinstance(index, tuple) or not all(isinstance(part, slice) for part in index):
            raise self.refuse(f"the part {index}")
        if index[0] != slice(None) or len(index) > 4:
            raise self.refuse(f"the part {index}")
        parts = [range(size)[part] for size, part in zip(x.node.shape, (*index[1:], *[slice(None)] * 3), strict=False)]
        channels, rows, columns = parts
        steps = {part.step for part in (rows, columns) if len(part) > 1} or {1}
        shape = (len(channels), len(rows), len(columns))
        if 0 in shape or len(steps) > 1 or min(steps) < 1:
            raise self.refuse(f"the part {index}")
        filters = np.arange(shape[0])
        dy, dx = np.full_like(filters, rows[0]), np.full_like(filters, columns[0])
        term = Term(x.node, steps.pop(), filters, np.array(channels), dy, dx, np.ones(shape[0]))
        return Value(Taps(self.name, shape, [term], np.zeros(shape[0])), flat=False)

    def pad(self, x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
        left, right, top, bottom, front, back, *more = [*pad, 0, 0, 0, 0, 0, 0][: max(6, len(pad))]
        if mode != "constant" or value or any(more) or x.flat:
            raise self.refuse("padding with anything other than zeros")
        channels, height, width = x.node.shape
        shape = (channels + front + back, height + top + bottom, width + left + right)
        if not any((left, right, top, bottom)):
            return self._channelwise(x, shape[0], front, np.ones(channels), np.zeros(shape[0]))
        term = diagonal(x.node, shape, np.ones(channels), shift=front)
        term.dy, term.dx = term.dy - top, term.dx - left
        return Value(Taps(self.name, shape, [touching(term, shape)], np.zeros(shape[0])), flat=False)

    def interpolate(
        self, x: Value, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **options: Any
    ) -> Value:
        if mode != "nearest" or size is None or scale_factor is not None or any(options.values()):
            raise self.refuse("resizing other than by nearest pixels to a given size")
        channels, height, width = x.node.shape
        rows, columns = size if isinstance(size, tuple | list) else (size, size)
        index = np.arange(int(np.prod(x.node.shape))).reshape(x.node.shape)
        y, x_ = np.arange(rows) * height // rows, np.arange(columns) * width // columns
        return Value(Gather(self.name, (channels, rows, columns), x.node, index[:, y][:, :, x_]), flat=False)

    def shape(self, x: Value, *index: int) -> Any:
        sizes = (_BATCH, int(np.prod(x.node.shape))) if x.flat else (_BATCH, *x.node.shape)
        return sizes[index[0]] if index else sizes

    def attribute(self, x: Any, name: str) -> Any:
        if isinstance(x, Value) and name == "shape":
            return self.shape(x)
        raise self.refuse(f"the attribute {name}")


def _pooled(length: int, size: int, stride: int, padding: int, ceil: bool) -> int:
    """Return the number of pooling windows along one dimension, as in PyTorch."""
    span = length + 2 * padding - size
    count = (span + (stride - 1 if ceil else 0)) // stride + 1
    if ceil and (count - 1) * stride >= length + padding:
        count -= 1  # the last window would start outside
    return count
