"""From an nn.Module to the nodes of `graph`, by torch.fx."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from runner.compaction.sparse.graph import (
    Floats,
    Gather,
    Input,
    MaxPool,
    Node,
    Shape,
    Taps,
    Term,
    convolution,
    diagonal,
    linear,
    touching,
    with_seconds,
)


class Unsupported(ValueError):
    """The network has a part that can't be executed sparsely; the message names it."""


@dataclass(frozen=True)
class Value:
    """What a name in the traced network stands for.

    Args:
        flat: (N, features) in PyTorch, whatever the node's shape.
        shared: something else reads it too, so that nothing may be folded into it.
    """

    node: Node
    flat: bool
    shared: bool = False


_BATCH = object()  # x.shape[0]


def trace(model: nn.Module, image: Shape) -> Node:
    """The network as nodes, for images of this shape.

    Args:
        model: in eval mode; reads one tensor and returns one.

    Raises:
        Unsupported: a part of the network is of no kind that is known here.
    """
    try:
        traced = fx.symbolic_trace(model)
    except Exception as error:  # tracing runs the model's own code, which may fail in any way
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unsupported(f"{type(model).__name__} can't be traced: {text}") from error
    return _Tracing(dict(traced.named_modules()), image).run(traced.graph)


class _Tracing:
    def __init__(self, modules: Mapping[str, nn.Module], image: Shape) -> None:
        self.modules, self.image = modules, image
        self.name = ""

    def run(self, graph: fx.Graph) -> Node:
        values: dict[fx.Node, Any] = {}
        for node in graph.nodes:
            self.name = str(node.target) if node.op == "call_module" else node.name

            def known(argument: fx.Node) -> Any:
                value = values[argument]
                if isinstance(value, Value) and len(argument.users) > 1:
                    return replace(value, shared=True)
                return value

            if node.op == "placeholder":
                if any(isinstance(value, Value) for value in values.values()):
                    raise Unsupported(f"the network reads more than one tensor: {node.name}")
                values[node] = Value(Input(node.name, self.image), flat=False)
                continue
            arguments = fx.map_arg(node.args, known)
            options = fx.map_arg(node.kwargs, known)
            if node.op == "output":
                if not isinstance(arguments[0], Value):
                    raise Unsupported("the network returns something else than one tensor")
                return with_seconds(arguments[0].node)
            values[node] = self._call(node, arguments, options)
        raise Unsupported("the network returns nothing")

    def _call(self, node: fx.Node, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            for kind, layer in _LAYERS.items():
                if isinstance(module, kind):
                    return layer(self, module, *arguments)
            raise Unsupported(f"layer {node.target}: {type(module).__name__} can't be executed sparsely")
        if node.op in ("call_function", "call_method"):
            function = _FUNCTIONS.get(node.target if node.op == "call_function" else str(node.target))
            if function is not None:
                return function(self, *arguments, **options)
        raise Unsupported(f"{node.target} ({node.format_node()}) can't be executed sparsely")

    def refuse(self, what: str) -> Unsupported:
        return Unsupported(f"layer {self.name}: {what} can't be executed sparsely")

    # Layers

    def convolution(self, layer: nn.Conv2d, x: Value) -> Value:
        if layer.padding_mode != "zeros" or len({*layer.stride}) > 1:
            raise self.refuse("a convolution with other padding than zeros or two strides")
        weight = _numbers(layer.weight)
        kernel = weight.shape[2:]
        if layer.padding == "same":
            padding = (layer.dilation[0] * (kernel[0] - 1) // 2, layer.dilation[1] * (kernel[1] - 1) // 2)
            size = x.node.shape[1:]
        else:
            padding = (0, 0) if isinstance(layer.padding, str) else (layer.padding[0], layer.padding[1])
            size = tuple(
                (x.node.shape[1 + i] + 2 * padding[i] - layer.dilation[i] * (kernel[i] - 1) - 1) // layer.stride[i] + 1
                for i in (0, 1)
            )
        term = convolution(x.node, weight, layer.stride[0], (0, 0))
        term.dy = term.dy * layer.dilation[0] - padding[0]
        term.dx = term.dx * layer.dilation[1] - padding[1]
        term.channels = term.channels + term.filters // (weight.shape[0] // layer.groups) * weight.shape[1]
        return self._layer((weight.shape[0], size[0], size[1]), term, layer, weight.size, flat=False)

    def linear(self, layer: nn.Linear, x: Value) -> Value:
        if not x.flat:
            raise self.refuse("a linear layer on an image that isn't flattened")
        weight = _numbers(layer.weight)
        return self._layer((weight.shape[0], 1, 1), linear(x.node, weight), layer, weight.size, flat=True)

    def _layer(self, shape: Shape, term: Term, layer: nn.Conv2d | nn.Linear, size: int, flat: bool) -> Value:
        bias = np.zeros(shape[0]) if layer.bias is None else _numbers(layer.bias)
        return Value(Taps(self.name, shape, [touching(term, shape)], bias, layers=[self.name], size=size), flat)

    def batch_norm(self, layer: _BatchNorm, x: Value) -> Value:
        if layer.running_mean is None or layer.running_var is None:
            raise self.refuse("BatchNorm without running statistics")
        scale = 1 / np.sqrt(_numbers(layer.running_var) + layer.eps)
        shift = np.zeros_like(scale)
        if layer.weight is not None:
            scale, shift = scale * _numbers(layer.weight), _numbers(layer.bias)
        if x.flat:
            x = self._vector(x)
        return self._channelwise(x, x.node.shape[0], 0, scale, shift - scale * _numbers(layer.running_mean))

    def _channelwise(self, x: Value, channels: int, move: int, scale: Floats, shift: Floats) -> Value:
        """Channel c times scale[c] to c + move, plus shift: folded into what makes it, if nothing else reads that."""
        shape = (channels, *x.node.shape[1:])
        node = x.node
        if isinstance(node, Taps) and not x.shared and not node.relu:
            terms = []
            for term in node.terms:
                moved = replace(term.scaled(scale), filters=term.filters + move)
                terms.append(moved.chosen((moved.filters >= 0) & (moved.filters < channels)))
            bias = np.zeros(channels)
            first, last = max(0, move), min(channels, move + len(scale))
            bias[first:last] = (scale * node.bias)[first - move : last - move]
            return replace(x, node=replace(node, shape=shape, terms=terms, bias=bias + shift))
        return Value(Taps(self.name, shape, [diagonal(node, shape, scale, shift=move)], shift), x.flat)

    def relu(self, x: Value, inplace: bool = False) -> Value:
        node = x.node
        if isinstance(node, Taps) and not x.shared:
            return replace(x, node=replace(node, relu=True))
        terms = [diagonal(node, node.shape, np.ones(node.shape[0]))]
        return Value(Taps(self.name, node.shape, terms, np.zeros(node.shape[0]), relu=True), x.flat)

    def same(self, x: Value, *_: Any, **__: Any) -> Value:
        """What changes nothing here."""
        return x

    def dropout(self, x: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
        if training:
            raise self.refuse("dropout in training mode")
        return x

    # Sums

    def add(self, a: Any, b: Any, alpha: float = 1) -> Value:
        if not (isinstance(a, Value) and isinstance(b, Value)) or alpha != 1:
            raise self.refuse("a sum of something else than two tensors")
        if a.node.shape != b.node.shape and a.flat and b.flat:
            a, b = self._vector(a), self._vector(b)
        if a.node.shape != b.node.shape:
            raise self.refuse(f"a sum of shapes {a.node.shape} and {b.node.shape}")
        shape = a.node.shape
        result = Taps(self.name, shape, [], np.zeros(shape[0]))
        # The layer's own taps go first, then the shortcut's.
        for x in sorted((b, a), key=lambda x: not (isinstance(x.node, Taps) and x.node.layers)):
            node = x.node
            if isinstance(node, Taps) and not x.shared and not node.relu and node.mergeable:
                result.terms += node.terms
                result.bias = result.bias + node.bias
                result.layers += node.layers
                result.size += node.size
                if node.layers and len(result.layers) == len(node.layers):
                    result.name = node.name
            else:
                result.terms.append(diagonal(node, shape, np.ones(shape[0])))
        return Value(result, a.flat)

    def concatenate(self, values: Sequence[Value], dim: int = 0) -> Value:
        if dim not in (1, -3) or len({x.node.shape[1:] for x in values}) > 1 or any(x.flat for x in values):
            raise self.refuse("a concatenation of something else than channels")
        shape = (sum(x.node.shape[0] for x in values), *values[0].node.shape[1:])
        terms, first = [], 0
        for x in values:
            terms.append(diagonal(x.node, shape, np.ones(x.node.shape[0]), shift=first))
            first += x.node.shape[0]
        return Value(Taps(self.name, shape, terms, np.zeros(shape[0])), flat=False)

    # Pooling

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
        if height % rows or width % columns or (rows, columns) != (1, 1) and width // columns != factor:
            raise self.refuse("an average of windows of different sizes")
        window = (height // rows, width // columns)
        return self._average(x, (channels, rows, columns), window, max(window), 0, 1 / (window[0] * window[1]))

    def mean(self, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
        dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
        if x.flat or {d % 4 for d in dims} != {2, 3}:
            raise self.refuse("a mean over other dimensions than height and width")
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

    # Views

    def flatten(self, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
        if x.flat or start_dim != 1 or end_dim not in (-1, 3):
            raise self.refuse("flattening anything else than whole images")
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

    def _vector(self, x: Value) -> Value:
        """A flat value as (features, 1, 1)."""
        total = int(np.prod(x.node.shape))
        if x.node.shape == (total, 1, 1):
            return x
        return Value(Gather(self.name, (total, 1, 1), x.node, np.arange(total).reshape(-1, 1, 1)), flat=True)

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
            raise self.refuse("padding with something else than zeros")
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
            raise self.refuse("resizing other than to the nearest pixel of a given size")
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


def _numbers(tensor: Tensor) -> Floats:
    return tensor.detach().to(torch.float64).numpy()


def _pooled(length: int, size: int, stride: int, padding: int, ceil: bool) -> int:
    """How many windows there are, as PyTorch counts them."""
    span = length + 2 * padding - size
    count = (span + (stride - 1 if ceil else 0)) // stride + 1
    if ceil and (count - 1) * stride >= length + padding:
        count -= 1  # the last window would begin outside
    return count


_LAYERS: dict[type[nn.Module], Callable[..., Value]] = {
    nn.Conv2d: _Tracing.convolution,
    nn.Linear: _Tracing.linear,
    _BatchNorm: _Tracing.batch_norm,
    nn.ReLU: lambda t, layer, x: t.relu(x),
    nn.Identity: lambda t, layer, x: x,
    nn.modules.dropout._DropoutNd: lambda t, layer, x: t.dropout(x, training=layer.training),
    nn.Flatten: lambda t, layer, x: t.flatten(x, layer.start_dim, layer.end_dim),
    nn.MaxPool2d: lambda t, layer, x: t.max_pool(
        x, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, layer.return_indices
    ),
    nn.AvgPool2d: lambda t, layer, x: t.average_pool(
        x,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.ceil_mode,
        layer.count_include_pad,
        layer.divisor_override,
    ),
    nn.AdaptiveAvgPool2d: lambda t, layer, x: t.adaptive_average(x, layer.output_size),
}

_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, "relu", "relu_"), _Tracing.relu),
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _Tracing.add),
    **dict.fromkeys((torch.flatten, "flatten"), _Tracing.flatten),
    **dict.fromkeys(("view", "reshape"), _Tracing.view),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _Tracing.max_pool),
    **dict.fromkeys((torch.mean, "mean"), _Tracing.mean),
    **dict.fromkeys((torch.cat, torch.concat), _Tracing.concatenate),
    **dict.fromkeys(("contiguous", "clone", "detach"), _Tracing.same),
    F.avg_pool2d: _Tracing.average_pool,
    F.adaptive_avg_pool2d: _Tracing.adaptive_average,
    F.dropout: _Tracing.dropout,
    F.pad: _Tracing.pad,
    F.interpolate: _Tracing.interpolate,
    operator.getitem: _Tracing.item,
    getattr: _Tracing.attribute,
    "size": _Tracing.shape,
}
