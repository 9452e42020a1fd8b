"""Translate an nn.Module into nodes of `graph`, with torch.fx."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from runner.compaction.scatter import add_by_index, put_by_index
from runner.compaction.sparse.graph import Input, Node, Shape, with_seconds
from runner.compaction.sparse.rules import Unsupported, Value
from runner.compaction.sparse.shapes import ShapeRules
from runner.models.blocks import PointwiseConv2d


def trace(model: nn.Module, image: Shape) -> Node:
    """Return the network's output as a node, for images of this shape.

    Args:
        model: a model in eval mode that takes one tensor and returns one.

    Raises:
        Unsupported: the network has a part of an unknown kind.
    """
    try:
        traced = fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:  # tracing runs the model's own code, which may fail in any way
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unsupported(f"{type(model).__name__} can't be traced: {text}") from error
    return _Tracing(traced, image).run(traced.graph)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Also treat this package's equivalent of nn.Conv2d as a leaf."""
        return isinstance(m, PointwiseConv2d) or super().is_leaf_module(m, module_qualified_name)


class _Tracing(ShapeRules):
    def __init__(self, model: fx.GraphModule, image: Shape) -> None:
        self.modules, self.image = dict(model.named_modules()), image
        self.tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}

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
            if node.op == "get_attr":
                values[node] = self.tensors.get(str(node.target))
                continue
            arguments = fx.map_arg(node.args, known)
            options = fx.map_arg(node.kwargs, known)
            if node.op == "output":
                if not isinstance(arguments[0], Value):
                    raise Unsupported("the network doesn't return exactly one tensor")
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
    put_by_index: _Tracing.put_by_index,
    add_by_index: _Tracing.add_by_index,
}
