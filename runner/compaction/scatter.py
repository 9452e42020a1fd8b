"""Index-based addition of terms that have fewer channels than their sum."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from runner.models.blocks import BasicBlock, Bottleneck, PreActBlock


@fx.wrap  # a single node in a traced network
def put_by_index(y: Tensor, dim: int, channels: int, index: Tensor, constant: Tensor | None) -> Tensor:
    """Place the channels of y at `index` and fill the others with `constant`, or with zeros if it is None."""
    shape = list(y.shape)
    shape[dim] = channels
    if constant is None:
        whole = y.new_zeros(shape)
    else:
        ones = [1] * (y.dim() - 2) if dim == 1 else []
        whole = constant.to(y.dtype).view(-1, *ones).expand(shape).contiguous()
    return whole.index_copy(dim, index, y)


@fx.wrap
def add_by_index(stream: Tensor, y: Tensor, index: Tensor, constant: Tensor | None) -> Tensor:
    """Add y to a stream by index in dimension 1, which equals adding the result of `put_by_index` but is faster."""
    if constant is not None:
        stream = stream + constant.to(stream.dtype).view(-1, 1, 1)
    return torch.index_add(stream, 1, index, y.to(stream.dtype))


class Scatter(nn.Module):
    """Wrapper of a module that computes only some of the channels; the others are constant.

    Args:
        module: returns (N, kept, …), or (…, kept) if dim is -1.
        dim: the dimension of the channels, 1 or -1.
        channels: number of output channels.
        index: the output channel for each of the module's channels.
        constant: whether the other channels have constant values, stored in the buffer `constant` (channels,). If
            False, they are zero.
    """

    index: Tensor
    constant: Tensor | None

    def __init__(self, module: nn.Module, dim: int, channels: int, index: list[int], constant: bool) -> None:
        super().__init__()
        self.module, self.dim, self.channels = module, dim, channels
        self.register_buffer("index", _indices(index), persistent=False)
        self.register_buffer("constant", torch.zeros(channels) if constant else None)

    def forward(self, x: Tensor) -> Tensor:
        return put_by_index(self.module(x), self.dim, self.channels, self.index, self.constant)


class _AddsByIndex(nn.Module):
    """A residual block whose last convolution adds to some of the stream's channels; the others gain a constant."""

    index: Tensor
    constant: Tensor | None

    def _add(self, stream: Tensor, y: Tensor) -> Tensor:
        return add_by_index(stream, y, self.index, self.constant)


class NarrowBasicBlock(_AddsByIndex, BasicBlock):
    """A `BasicBlock` whose output is added by index."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self._add(self.shortcut(x), self.norm2(self.conv2(y))))


class NarrowBottleneck(_AddsByIndex, Bottleneck):
    """A `Bottleneck` whose output is added by index."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(self._add(self.shortcut(x), self.norm3(self.conv3(y))))


class NarrowPreActBlock(_AddsByIndex, PreActBlock):
    """A `PreActBlock` whose output is added by index."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        return self._add(shortcut, self.conv2(F.relu(self.norm2(self.conv1(y)))))


_NARROW: dict[tuple[type[nn.Module], str], type[nn.Module]] = {
    (BasicBlock, "norm2"): NarrowBasicBlock,
    (Bottleneck, "norm3"): NarrowBottleneck,
    (PreActBlock, "conv2"): NarrowPreActBlock,
}


def write_by_index(
    modules: Mapping[str, nn.Module], name: str, dim: int, channels: int, index: list[int], constant: bool
) -> None:
    """Modify a network in place so that the output of a module is added to a sum by index.

    This package's residual blocks support this themselves; in other networks, the module is wrapped in a `Scatter`.

    Args:
        modules: the modules of a network, by name.
        dim, channels, index, constant: see `Scatter`.
    """
    parent_name, _, child = name.rpartition(".")
    parent = modules[parent_name]
    narrow = _NARROW.get((type(parent), child))
    if narrow is None:
        setattr(parent, child, Scatter(modules[name], dim, channels, index, constant))
        return
    parent.__class__ = narrow
    parent.register_buffer("index", _indices(index), persistent=False)
    parent.register_buffer("constant", torch.zeros(channels) if constant else None)


def is_wrapped(model: nn.Module, name: str) -> bool:
    """Return whether `write_by_index` would wrap the named module in a `Scatter`."""
    parent, _, child = name.rpartition(".")
    return (type(model.get_submodule(parent)), child) not in _NARROW


def state_names(network: nn.Module, name: str) -> tuple[str, str]:
    """Return the state dict prefix of a module that is written by index, and the name of its constant."""
    if isinstance(module := network.get_submodule(name), Scatter):
        assert module.module is not None
        return f"{name}.module", f"{name}.constant"
    return name, f"{name.rpartition('.')[0]}.constant"


def _indices(index: list[int]) -> Tensor:
    return torch.tensor(index, dtype=torch.int64, device="cpu")  # even if a network is built on the meta device
