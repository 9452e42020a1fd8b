"""Which filters, columns and BatchNorm channels belong together, found by one forward pass.

Every filter of a layer makes one *channel*. A channel goes through normalisation, activations, pooling, padding,
slicing, concatenation and flattening, and is read by columns of later layers. Where tensors are added or multiplied,
the channels that meet form one *group*: they can only be removed together. What takes part in an operation that mixes
channels in another way (LayerNorm, softmax, the network's output) is *fixed* and never removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

FIXED = 0  # the channel of everything that can't be removed


@dataclass
class Layer:
    """A weight matrix: a convolution, a transposed one, or a linear layer.

    Attributes:
        inputs: channel that each column reads; (columns,).
        outputs: channel that each filter makes; (filters,).
        filter_dim: dimension of the weight that is the filters', 0, or 1 for transposed convolutions.
        taps: weights that connect one column with one filter, the kernel's area.
        applications: how often each tap is applied to one example: positions of the output (of the input for transposed
            convolutions).
        padded: whether zeros are read beyond the border, so that a constant channel adds less there.
        low, high: smallest and largest value that each column read; (columns,).
        made_low, made_high: smallest and largest value that each filter made; (filters,).
        norm: BatchNorm that is all that reads the output, if it is so.
        place: where the output can be written into a sum by index: name of the last module before the sum, which is
            the layer or the normalisation right behind it. None: it isn't a term of a sum.
        convolution: whether its input has the channels in dimension 1, not in the last.
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
    """Channels that are made of others: where two tensors are joined, or a depthwise convolution goes over one.

    Attributes:
        made, first, second: channels; (n,). Of a depthwise convolution first and second are the same.
        depthwise: name of the depthwise convolution, or None.
        product: whether a zero in either makes a zero.
        null: whether first and second were zero everywhere in the trace; (2, n).
        whole: whether first and second are as large as what they make, unlike the factors of a gate; (2,).
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
    """A module with one set of parameters a channel, which keeps channels apart: BatchNorm or a depthwise convolution.

    Attributes:
        channels: (C,) the channels that go through; of a depthwise convolution those that it makes.
        kind: "norm" or "depthwise".
        taps, applications: as in `Layer`, of one channel.
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
    """One attention, whose projections are layers of their own, with the heads one above the other.

    Attributes:
        name: of the module that holds the projections.
        query, key, value: names of the layers.
        count: heads.
        queries_length, keys_length: positions of one example.
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
    """What must be removed together in one network.

    Attributes:
        steps: how channels are made of others, in order of computation.
        group: channel → its group; (channels,). Group FIXED stays.
        reasons: channel → why it is fixed, where that is known.
        other_flops: of convolutions and matrices that are no layers of the kinds above, for one example.
    """

    layers: dict[str, Layer] = field(default_factory=dict)
    carriers: dict[str, Carrier] = field(default_factory=dict)
    heads: list[Heads] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    group: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    reasons: dict[int, str] = field(default_factory=dict)
    other_flops: int = 0

    def members(self, group: int) -> list[tuple[str, str, list[int]]]:
        """(name, "out", "in" or "channel", indices) of all that go together with a group."""
        found = []
        for layer in self.layers.values():
            found += [(layer.name, "out", layer.outputs), (layer.name, "in", layer.inputs)]
        found += [(carrier.name, "channel", carrier.channels) for carrier in self.carriers.values()]
        hits = [(name, side, (self.group[ids] == group).nonzero().flatten().tolist()) for name, side, ids in found]
        return [hit for hit in hits if hit[2]]


class Channels:
    """Channels and the groups they are joined to (union-find)."""

    def __init__(self) -> None:
        self.parent = [FIXED]
        self.why: dict[int, str] = {}
        self.steps: list[Step] = []

    def new(self, count: int) -> Tensor:
        """(count,) channels, each a group of its own."""
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def find(self, channel: int) -> int:
        while self.parent[channel] != channel:
            self.parent[channel] = self.parent[self.parent[channel]]
            channel = self.parent[channel]
        return channel

    def join(self, a: int, b: int) -> None:
        """Both groups become one; a group that is joined to FIXED is FIXED."""
        a, b = sorted((self.find(a), self.find(b)))
        self.parent[b] = a

    def fix(self, channels: Tensor, reason: str) -> None:
        for channel in channels.unique().tolist():
            self.why.setdefault(channel, reason)
            self.join(FIXED, channel)

    def merge(self, a: Tensor, b: Tensor, factors: Sequence[Tensor] = ()) -> Tensor:
        """The channels of an elementwise operation on two tensors, whose channels (same shape) are joined.

        Args:
            factors: the two tensors, of a product.
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
        """Hand on why channels are fixed to all that is made of them, and to what they are made of."""
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
    """Which of the values that share an index are all zero; (count,)."""
    largest = torch.zeros(count)
    return largest.scatter_reduce(0, index.flatten(), values.detach().abs().float().flatten().cpu(), "amax") == 0
