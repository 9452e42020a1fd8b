"""The coupling of a network: which filters, columns and BatchNorm channels must be removed together.

The coupling is found by tracing one forward pass. Each filter of a layer produces one *channel*. A channel passes
through normalisation, activations, pooling, padding, slicing, concatenation and flattening, and is read by columns of
later layers. Where tensors are added or multiplied, the channels that meet form one *group* and can only be removed
together. Channels that enter an operation which mixes channels in another way (LayerNorm, softmax, the network's
output) are *fixed* and never removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

FIXED = 0  # the channel of everything that can't be removed


@dataclass
class Layer:
    """A layer with a weight matrix: a convolution, a transposed convolution, or a linear layer.

    Attributes:
        inputs: the channel that each column reads, with shape (columns,).
        outputs: the channel that each filter produces, with shape (filters,).
        filter_dim: the dimension of the weight that indexes filters: 0, or 1 for transposed convolutions.
        taps: number of weights that connect one column to one filter, i.e. the kernel's area.
        applications: how often each tap is applied per example: the number of output positions (input positions for
            transposed convolutions).
        padded: whether the input is padded with zeros, so that a constant channel contributes less at the border.
        low, high: the smallest and largest values that each column has read, with shape (columns,).
        made_low, made_high: the smallest and largest values that each filter has produced, with shape (filters,).
        norm: name of the BatchNorm that is the only reader of the output, or None.
        place: name of the last module before a sum into which the output can be written by index. This is the layer
            itself or the normalisation directly after it. None if the output isn't a term of a sum.
        convolution: whether the channels of the input are in dimension 1 instead of the last dimension.
    """

    name: str
    inputs: Tensor
    outputs: Tensor
    filter_dim: int
    taps: int
    applications: int
    padded: bool
    low: Tensor
    high: Tensor
    made_low: Tensor
    made_high: Tensor
    norm: str | None = None
    place: str | None = None
    convolution: bool = True

    @property
    def column_dim(self) -> int:
        return 1 - self.filter_dim


@dataclass(frozen=True)
class Step:
    """Channels computed from other channels, either by combining two tensors or by a depthwise convolution.

    Attributes:
        made, first, second: the resulting channels and those of the two inputs, each (n,). For a depthwise convolution,
            first and second are the same.
        depthwise: name of the depthwise convolution, or None.
        product: whether a zero in either input makes the result zero.
        null: whether first and second were zero everywhere in the trace, as a boolean tensor (2, n);
            None if the step isn't a product.
        whole: whether first has the shape of the result, and whether second has. A gate's factor doesn't.
    """

    made: Tensor
    first: Tensor
    second: Tensor
    depthwise: str | None = None
    product: bool = False
    null: Tensor | None = None
    whole: tuple[bool, bool] = (True, True)


@dataclass
class Carrier:
    """A module that processes each channel separately with its own parameters: BatchNorm or a depthwise convolution.

    Attributes:
        channels: the channels (C,) that pass through; for a depthwise convolution, the channels that it produces.
        kind: "norm" or "depthwise".
        made_low, made_high, taps, applications: as in `Layer`, per channel.
    """

    name: str
    channels: Tensor
    kind: str
    made_low: Tensor
    made_high: Tensor
    taps: int = 0
    applications: int = 0


@dataclass
class Heads:
    """An attention module whose projections are separate layers, with filters ordered by head.

    Attributes:
        name: name of the module that holds the projections.
        query, key, value: names of the layers.
        count: number of heads.
        queries_length, keys_length: number of positions per example.
    """

    name: str
    query: str
    key: str
    value: str
    count: int
    queries_length: int
    keys_length: int


@dataclass
class Coupling:
    """The parts of a network that must be removed together.

    Attributes:
        steps: how channels are computed from other channels, in order of computation.
        group: the group of each channel, with shape (channels,). The group FIXED is never removed.
        reasons: mapping from channel to the reason why it is fixed, if known.
        other_flops: operations per example of convolutions and matrix products that are not in `layers`.
    """

    layers: dict[str, Layer] = field(default_factory=dict)
    carriers: dict[str, Carrier] = field(default_factory=dict)
    heads: list[Heads] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    group: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    reasons: dict[int, str] = field(default_factory=dict)
    other_flops: int = 0

    def members(self, group: int) -> list[tuple[str, str, list[int]]]:
        """Return (name, "out", "in" or "channel", indices) for everything that belongs to a group."""
        found = []
        for layer in self.layers.values():
            found += [(layer.name, "out", layer.outputs), (layer.name, "in", layer.inputs)]
        found += [(carrier.name, "channel", carrier.channels) for carrier in self.carriers.values()]
        hits = [(name, side, (self.group[ids] == group).nonzero().flatten().tolist()) for name, side, ids in found]
        return [hit for hit in hits if hit[2]]


class Channels:
    """A union-find structure that joins channels into groups."""

    def __init__(self) -> None:
        self.parent = [FIXED]
        self.why: dict[int, str] = {}
        self.steps: list[Step] = []

    def new(self, count: int) -> Tensor:
        """Create new channels, each in its own group, and return them as a tensor (count,)."""
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def find(self, channel: int) -> int:
        while self.parent[channel] != channel:
            self.parent[channel] = self.parent[self.parent[channel]]
            channel = self.parent[channel]
        return channel

    def join(self, a: int, b: int) -> None:
        """Merge the groups of two channels. A group that is merged with FIXED becomes FIXED."""
        a, b = sorted((self.find(a), self.find(b)))
        self.parent[b] = a

    def fix(self, channels: Tensor, reason: str) -> None:
        for channel in channels.unique().tolist():
            self.why.setdefault(channel, reason)
            self.join(FIXED, channel)

    def merge(self, a: Tensor, b: Tensor, factors: Sequence[Tensor] = ()) -> Tensor:
        """Join the channels of two tensors of the same shape and return the channels of their elementwise combination.

        Args:
            factors: the two tensors, if the operation is a product.
        """
        keys, back = torch.unique(a * len(self.parent) + b, return_inverse=True)
        size = len(self.parent)
        merged = []
        for key in keys.tolist():
            first, second = divmod(key, size)
            if first == second:
                merged.append(first)
                continue
            (channel,) = self.new(1).tolist()
            self.join(channel, first)
            self.join(channel, second)
            merged.append(channel)
        made, firsts, seconds = torch.tensor(merged), keys // size, keys % size
        new = firsts != seconds
        null, whole = None, (True, True)
        if factors:
            null = torch.stack([_all_zero(factor.expand(a.shape), back, len(keys)) for factor in factors])[:, new]
            whole = (factors[0].numel() == a.numel(), factors[1].numel() == a.numel())
        self.steps.append(Step(made[new], firsts[new], seconds[new], None, bool(factors), null, whole))
        return made[back]

    def explain(self) -> None:
        """Pass on the reasons of fixed channels to the channels that they are computed from or that depend on them."""
        triples = [
            triple
            for step in self.steps
            for triple in zip(step.made.tolist(), step.first.tolist(), step.second.tolist(), strict=True)
        ]
        for made, *sources in triples:
            for source in sources:
                if source in self.why:
                    self.why.setdefault(made, self.why[source])
        for made, *sources in reversed(triples):
            for source in sources if made in self.why else ():
                self.why.setdefault(source, self.why[made])

    def groups(self) -> Tensor:
        return torch.tensor([self.find(channel) for channel in range(len(self.parent))])


def _all_zero(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Return a mask (count,) of the indices whose values are all zero."""
    largest = torch.zeros(count)
    return largest.scatter_reduce(0, index.flatten(), values.detach().abs().float().flatten().cpu(), "amax") == 0
