"""Translate PyTorch's layers and functions into nodes of `graph`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from runner.compaction.sparse.graph import (
    Floats,
    Gather,
    Node,
    Shape,
    Taps,
    Term,
    convolution,
    diagonal,
    linear,
    touching,
)


class Unsupported(ValueError):
    """Raised if a part of the network can't be executed sparsely; the message names the part."""


@dataclass(frozen=True)
class Value:
    """The value of a name in the traced network.

    Args:
        flat: whether the PyTorch tensor has the shape (N, features), regardless of the node's shape.
        shared: whether the value has other readers, so that nothing may be folded into it.
    """

    node: Node
    flat: bool
    shared: bool = False


class Rules:
    """Translation rules. There is one method for each kind of layer or function, with the arguments of the function.

    Attributes:
        name: name of the layer that is being traced, for errors and nodes.
    """

    name = ""

    def refuse(self, what: str) -> Unsupported:
        return Unsupported(f"layer {self.name}: {what} can't be executed sparsely")

    def convolution(self, layer: nn.Conv2d, x: Value) -> Value:
        if layer.padding_mode != "zeros" or len({*layer.stride}) > 1:
            raise self.refuse("a convolution with padding other than zeros or with two strides")
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
        """Move scale[c] times channel c to c + move and add shift, folded into the source if it has no other reader."""
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
        """Return x, for operations that have no effect here."""
        return x

    def dropout(self, x: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
        if training:
            raise self.refuse("dropout in training mode")
        return x

    def add(self, a: Any, b: Any, alpha: float = 1) -> Value:
        if not (isinstance(a, Value) and isinstance(b, Value)) or alpha != 1:
            raise self.refuse("a sum of anything other than two tensors")
        if a.node.shape != b.node.shape and a.flat and b.flat:
            a, b = self._vector(a), self._vector(b)
        if a.node.shape != b.node.shape:
            raise self.refuse(f"a sum of shapes {a.node.shape} and {b.node.shape}")
        shape = a.node.shape
        result = Taps(self.name, shape, [], np.zeros(shape[0]))
        # The layer's own taps come first, then the shortcut's.
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

    def put_by_index(self, x: Value, dim: int, channels: int, index: Tensor, constant: Tensor | None) -> Value:
        if x.flat:
            x = self._vector(x)
        node, places = x.node, index.numpy()
        shape = (channels, *node.shape[1:])
        result = Taps(self.name, shape, [], np.zeros(channels))
        if isinstance(node, Taps) and not x.shared and not node.relu:
            result.terms = [replace(term, filters=places[term.filters]) for term in node.terms]
            result.bias[places] = node.bias
            result.name, result.layers, result.size = node.name, node.layers, node.size
        else:
            one = diagonal(node, node.shape, np.ones(node.shape[0]))
            result.terms = [replace(one, filters=places)]
        if constant is not None:
            result.bias = result.bias + _numbers(constant)
        return Value(result, x.flat)

    def add_by_index(self, stream: Value, x: Value, index: Tensor, constant: Tensor | None) -> Value:
        return self.add(stream, self.put_by_index(x, 1, stream.node.shape[0], index, constant))

    def concatenate(self, values: Sequence[Value], dim: int = 0) -> Value:
        if dim not in (1, -3) or len({x.node.shape[1:] for x in values}) > 1 or any(x.flat for x in values):
            raise self.refuse("a concatenation of anything other than channels")
        shape = (sum(x.node.shape[0] for x in values), *values[0].node.shape[1:])
        terms, first = [], 0
        for x in values:
            terms.append(diagonal(x.node, shape, np.ones(x.node.shape[0]), shift=first))
            first += x.node.shape[0]
        return Value(Taps(self.name, shape, terms, np.zeros(shape[0])), flat=False)

    def _vector(self, x: Value) -> Value:
        """Return a flat value as (features, 1, 1)."""
        total = int(np.prod(x.node.shape))
        if x.node.shape == (total, 1, 1):
            return x
        return Value(Gather(self.name, (total, 1, 1), x.node, np.arange(total).reshape(-1, 1, 1)), flat=True)


def _numbers(tensor: Tensor) -> Floats:
    return tensor.detach().to(torch.float64).numpy()
