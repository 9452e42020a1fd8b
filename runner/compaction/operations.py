"""The effect of ATen operations on channels. Operations that are not listed mix channels."""

from typing import Any

from torch import Tensor

_NAMES = {
    "filters": "conv1d conv2d conv3d linear",
    "transposed filters": "conv_transpose1d conv_transpose2d conv_transpose3d",
    # Each element of the output is an element of the input.
    "move": "alias cat chunk clone contiguous detach dropout expand feature_dropout flatten flip movedim narrow "
    "permute repeat reshape select slice split split_with_sizes squeeze stack swapaxes t to _to_copy transpose unbind "
    "unflatten unsafe_chunk unsqueeze view _unsafe_view",
    "elementwise": "abs celu elu exp gelu hardsigmoid hardswish hardtanh leaky_relu log mish neg pow relu relu6 selu "
    "sigmoid silu softplus sqrt tanh clamp clamp_min clamp_max",
    "combine": "add sub rsub mul div maximum minimum",
    # Each channel (dimension 1) is processed separately.
    "pool": "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_bilinear2d upsample_bicubic2d",
    "reduce": "mean sum amax amin",
    "norm": "batch_norm",
    "pad": "pad",
    "attend": "scaled_dot_product_attention",
}
KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
COPIES = frozenset({"alias", "clone", "contiguous", "detach", "dropout", "feature_dropout", "to", "_to_copy"})
RESHAPES = frozenset({"view", "_unsafe_view", "reshape", "unflatten"})


def argument(func: Any, args: Any, kwargs: Any, name: str, default: Any) -> Any:
    """Return an operation's argument by its name in the schema."""
    names = [argument.name for argument in func._schema.arguments]
    if name in kwargs:
        return kwargs[name]
    index = names.index(name) if name in names else len(args)
    return args[index] if index < len(args) else default


def spread(channels: Tensor, out: Tensor, dim: int) -> Tensor:
    """Expand (C,) channels along a dimension of an output to the output's shape."""
    shape = [1] * out.dim()
    shape[dim] = len(channels)
    return channels.view(shape).expand(out.shape)


def value_range(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest value at each index of a dimension, each (C,)."""
    rows = x.detach().movedim(dim, 0).flatten(1)
    return rows.amin(1).cpu(), rows.amax(1).cpu()
