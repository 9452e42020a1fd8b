"""The graph of a traced network, in which most nodes are sums of weighted, shifted planes.

For convolutions, linear layers, BatchNorm, residual sums, average pooling, and strided and padded shortcuts, each plane
of the result is a bias plus shifted and weighted planes of the inputs. A convolution, its BatchNorm and the sum with a
projected shortcut are therefore a single `Taps` node, which is computed in one pass.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Shape = tuple[int, int, int]  # channels, height, width; a vector of features is (features, 1, 1)


@dataclass(eq=False)
class Node:
    """A value that the network computes.

    Args:
        name: name of the layer to which the value is attributed.
        shape: shape of the value for one image.
    """

    name: str
    shape: Shape

    @property
    def sources(self) -> list["Node"]:
        """The nodes that this node reads, without duplicates."""
        return []


@dataclass(eq=False)
class Input(Node):
    """The input image."""


@dataclass(eq=False)
class Term:
    """Taps on one source: result[f, y, x] += weight * source[c, y * stride + dy, x * stride + dx], zero outside.

    Args:
        filters, channels, dy, dx, weights: one entry per tap.
    """

    source: Node
    stride: int
    filters: Ints
    channels: Ints
    dy: Ints
    dx: Ints
    weights: Floats

    def chosen(self, which: npt.NDArray[np.bool_]) -> "Term":
        """Return a term with only the selected taps."""
        filters, channels, dy, dx = (entry[which] for entry in (self.filters, self.channels, self.dy, self.dx))
        return Term(self.source, self.stride, filters, channels, dy, dx, self.weights[which])

    def scaled(self, scale: Floats) -> "Term":
        """Return a term with each filter's taps multiplied by its factor."""
        return replace(self, weights=self.weights * scale[self.filters])


@dataclass(eq=False)
class Taps(Node):
    """A bias plus a sum of terms, followed by ReLU if `relu` is set.

    Args:
        layers: names of the convolutions and linear layers whose weights the node contains.
        size: the number of their weights, including zeros.
        second: a second result that is computed together with this one, or None.
    """

    terms: list[Term]
    bias: Floats
    relu: bool = False
    layers: list[str] = field(default_factory=list)
    size: int = 0
    second: "Second | None" = None

    @property
    def sources(self) -> list[Node]:
        return list(dict.fromkeys(term.source for term in self.terms))

    @property
    def mergeable(self) -> bool:
        """Whether the taps can be merged into another node of this shape, i.e. the rows of all sources match."""
        return all(t.stride > 1 or t.source.shape[1:] == self.shape[1:] for t in self.terms)


@dataclass(eq=False)
class Second(Node):
    """A second result of the node `first`: scale * value + shift, followed by ReLU if `relu` is set.

    `scale` and `shift` are None if they have no effect.
    """

    first: Taps
    scale: Floats | None
    shift: Floats | None
    relu: bool

    @property
    def sources(self) -> list[Node]:
        return [self.first]


@dataclass(eq=False)
class MaxPool(Node):
    """The maximum over windows; positions outside the image don't count."""

    source: Node
    size: int
    stride: int
    padding: int

    @property
    def sources(self) -> list[Node]:
        return [self.source]


@dataclass(eq=False)
class Gather(Node):
    """A rearrangement: result.flat[i] = source.flat[index.flat[i]]."""

    source: Node
    index: Ints

    @property
    def sources(self) -> list[Node]:
        return [self.source]


def diagonal(source: Node, shape: Shape, scale: Floats, stride: int = 1, shift: int = 0) -> Term:
    """Return a term that adds scale[c] times channel c to filter c + shift, at every stride-th pixel."""
    channels = np.arange(source.shape[0])
    kept = (channels + shift >= 0) & (channels + shift < shape[0])
    zeros = np.zeros_like(channels)
    return Term(source, stride, channels + shift, channels, zeros, zeros, scale).chosen(kept)


def convolution(source: Node, weight: Floats, stride: int, padding: tuple[int, int]) -> Term:
    """Return the non-zero weights (filters, channels, kernel rows, kernel columns) as taps."""
    filters, channels, dy, dx = np.nonzero(weight)
    return Term(source, stride, filters, channels, dy - padding[0], dx - padding[1], weight[filters, channels, dy, dx])


def linear(source: Node, weight: Floats) -> Term:
    """Return the non-zero weights (outputs, inputs) as taps on a flattened source."""
    filters, inputs = np.nonzero(weight)
    channels, dy, dx = np.unravel_index(inputs, source.shape)
    return Term(source, 1, filters, channels, dy, dx, weight[filters, inputs])


def touching(term: Term, shape: Shape) -> Term:
    """Return a term without the taps that read only padding at all positions."""
    _, height, width = term.source.shape
    keep = np.ones(len(term.filters), dtype=bool)
    for offset, size, results in ((term.dy, height, shape[1]), (term.dx, width, shape[2])):
        first = np.maximum(0, -(offset // term.stride))  # the first result whose tap isn't before the image
        keep &= (first < results) & (first * term.stride + offset < size)
    return term.chosen(keep)


def in_order(output: Node) -> list[Node]:
    """Return all nodes that the output depends on, in topological order."""
    done: dict[Node, None] = {}
    waiting: list[tuple[Node, bool]] = [(output, False)]
    while waiting:
        node, ready = waiting.pop()
        if ready:
            done[node] = None
        elif node not in done:
            waiting.append((node, True))
            waiting.extend((source, False) for source in reversed(node.sources))
    return list(done)


def readers(output: Node) -> dict[Node, list[Node]]:
    """Return the nodes that read each node."""
    found: dict[Node, list[Node]] = {}
    for node in in_order(output):
        for source in node.sources:
            found.setdefault(source, []).append(node)
    return found


def with_seconds(output: Node) -> Node:
    """Fold nodes that only scale, shift and rectify a `Taps` node into that node as its second result.

    Returns:
        The new output; nodes are changed in place.
    """
    replaced: dict[Node, Second] = {}
    for node in in_order(output):
        if not isinstance(node, Taps) or len(node.terms) != 1 or node.layers:
            continue
        term = node.terms[0]
        first = term.source
        if not isinstance(first, Taps) or first.second or first in replaced or not _is_diagonal(term, node.shape):
            continue
        plain = bool(np.all(term.weights == 1)) and not node.bias.any()
        second = Second(node.name, node.shape, first, None if plain else term.weights, node.bias, node.relu)
        if plain:
            second.shift = None
        first.second = second
        replaced[node] = second
    _substitute(output, replaced)
    return replaced.get(output, output)


def _is_diagonal(term: Term, shape: Shape) -> bool:
    channels = np.arange(shape[0])
    return (
        term.stride == 1
        and term.source.shape == shape
        and np.array_equal(term.filters, channels)
        and np.array_equal(term.channels, channels)
        and not term.dy.any()
        and not term.dx.any()
    )


def _substitute(output: Node, replaced: dict[Node, Second]) -> None:
    def now(node: Node) -> Node:
        return replaced.get(node, node)

    for node in in_order(output):
        if isinstance(node, Taps):
            for term in node.terms:
                term.source = now(term.source)
        elif isinstance(node, MaxPool | Gather):
            node.source = now(node.source)
