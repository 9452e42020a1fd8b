"""The loss on a split as a function of the weights of some layers, with its first two derivatives.

All other parameters are fixed, BatchNorm uses its running statistics, and the loss is the *mean* cross-entropy. It is
therefore a function E of one long vector θ. The Hessian H of E is never assembled. Products H v are computed by
differentiating the gradient (double backward, which gives vᵀH = (H v)ᵀ because H is symmetric).
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap

from runner.models.layers import prunable_layers

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]

# Maximum number of values in memory: 2 GiB of float64 on a CPU, and 4 GiB of float32 on a GPU, which needs large
# batches to be fast.
_NUMBERS = 2**28
_NUMBERS_ON_GPU = 2**30
_MOST_EXAMPLES = 500
_MOST_DIRECTIONS = 128


@dataclass(frozen=True)
class Level:
    """The loss and accuracy of the network at a given θ."""

    loss: float  # mean cross-entropy, nats
    accuracy: float  # in [0, 1]


class Surface:
    """The function E(θ), where θ concatenates the weights of the given layers, each in contiguous order.

    Args:
        model: a plain trained model that maps inputs (N, …) to logits (N, classes). It is copied and not changed.
        layers: the names of the layers. None means the prunable ones.
        batches: returns a new iterable of batches, inputs (N, …) and labels (N,), on the model's device.
        dtype: the dtype of all computation.
        advance: called after each chunk with the number of examples times directions.

    Raises:
        ValueError: a layer does not exist or has no weight matrix.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[str] | None,
        batches: Batches,
        dtype: torch.dtype = torch.float64,
        advance: Callable[[int], object] = lambda work: None,
    ) -> None:
        self._model = copy.deepcopy(model).to(dtype).eval().requires_grad_(False)
        weights = {name: layer.weight for name, layer in prunable_layers(self._model, layers).items()}
        self.shapes: dict[str, torch.Size] = {name: weight.shape for name, weight in weights.items()}  # type: ignore[misc]
        self.theta = torch.cat([weight.contiguous().flatten() for weight in weights.values()])  # type: ignore[operator]
        self._advance = advance
        self._batches = batches
        numbers = _NUMBERS_ON_GPU if self.theta.is_cuda else _NUMBERS
        self._examples, self._directions = fitting(len(self.theta), self._activations(), numbers)
        self.at_once = max(1, numbers // (4 * len(self.theta)))  # suggested number of directions for `products`

    def matrices(self, theta: Tensor) -> dict[str, Tensor]:
        """Split θ, or a vector in the same order, into tensors in the shapes of the layers' weights, by name."""
        parts = theta.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    @torch.no_grad()
    def level(self, theta: Tensor) -> Level:
        """Return the loss and accuracy at a given θ."""
        loss, correct, examples = 0.0, 0, 0
        for inputs, labels in self._pieces():
            logits = self._logits(theta, inputs)
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            correct += int((logits.argmax(1) == labels).sum())
            examples += len(labels)
            self._advance(len(labels))
        return Level(loss / examples, correct / examples)

    def gradient(self) -> Tensor:
        """Return ∇E(θ), with shape (n,)."""
        total, examples = torch.zeros_like(self.theta), 0
        for inputs, labels in self._pieces():
            total += grad(partial(self._loss, inputs, labels))(self.theta)
            examples += len(labels)
            self._advance(len(labels))
        return total / examples

    def products(self, directions: Tensor) -> Tensor:
        """Return H v for every row v: (k, n) → (k, n)."""
        return self._products(len(directions), directions.__getitem__, lambda product: product)

    def hessian(self, members: Tensor) -> Tensor:
        """Return the submatrix of H with the given indices: (m,) → (m, m)."""

        def unit_vectors(part: slice) -> Tensor:
            chosen = members[part]
            vectors = self.theta.new_zeros(len(chosen), len(self.theta))
            return vectors.scatter_(1, chosen[:, None], 1.0)

        return self._products(len(members), unit_vectors, lambda product: product[:, members])

    def _products(self, k: int, rows: Callable[[slice], Tensor], kept: Callable[[Tensor], Tensor]) -> Tensor:
        """Return `kept` applied to the products with k directions, computing as many at once as memory allows."""
        parts = [slice(start, min(start + self._directions, k)) for start in range(0, k, self._directions)]
        totals: list[Tensor | float] = [0.0] * len(parts)
        examples = 0
        for inputs, labels in self._pieces():
            product = vjp(grad(partial(self._loss, inputs, labels)), self.theta)[1]
            for index, part in enumerate(parts):
                vectors = rows(part)
                # vmap turns convolutions into grouped ones, which are slow; avoid it for a single direction.
                (found,) = vmap(product)(vectors) if len(vectors) > 1 else product(vectors[0])
                totals[index] = totals[index] + kept(found.view(vectors.shape))
                self._advance(len(labels) * len(vectors))
            examples += len(labels)
        return torch.cat([torch.as_tensor(total) for total in totals]) / examples

    def _loss(self, inputs: Tensor, labels: Tensor, theta: Tensor) -> Tensor:
        return F.cross_entropy(self._logits(theta, inputs), labels, reduction="sum")

    def _logits(self, theta: Tensor, inputs: Tensor) -> Tensor:
        weights = {f"{name}.weight": weight for name, weight in self.matrices(theta).items()}
        logits = functional_call(self._model, weights, (inputs,))
        assert isinstance(logits, Tensor)
        return logits

    def _pieces(self) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, labels in self._batches():
            yield from zip(inputs.to(self.theta.dtype).split(self._examples), labels.split(self._examples), strict=True)

    @torch.no_grad()
    def _activations(self) -> int:
        """Return the number of activations in all layers for one example."""
        counts: list[int] = []
        leaves = [module for module in self._model.modules() if not any(module.children())]
        hooks = [leaf.register_forward_hook(lambda _, __, out: counts.append(out.numel())) for leaf in leaves]
        inputs, _ = next(iter(self._batches()))
        self._model(inputs[:1].to(self.theta.dtype))
        for hook in hooks:
            hook.remove()
        return sum(counts)


def fitting(weights: int, activations: int, numbers: int) -> tuple[int, int]:
    """Return the numbers of examples, and of directions per example, that fit into memory.

    Args:
        weights: the length of θ.
        activations: the number of activations for one example. A differentiable gradient keeps about six times as many
            values. A product needs half of that in addition, and four vectors of the length of θ.
        numbers: the maximum number of values in memory.
    """
    examples = min(max(1, numbers // (6 * activations)), _MOST_EXAMPLES)
    directions = numbers // (4 * weights + 3 * activations * examples)
    return examples, min(max(1, directions), _MOST_DIRECTIONS)
