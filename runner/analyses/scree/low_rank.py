"""Fewer directions in place of fewer features: what a weight's truncated SVD and PCA of activations leave at rank k.

A layer reads n features, y = W x. TailDropout keeps k of them; any other k directions of x are a projection before the
layer, x → m + P Pᵀ (x − m), after which its weight has rank k:

- SVD: P are the first k right singular vectors of W, m = 0. W P Pᵀ is W's best approximation of rank k (Eckart & Young,
  1936). No data is needed. A convolution's weight is taken as the matrix of its input channels against all else.
- PCA: P are the first k principal components of training activations x, m their mean.

A network that is cut so needs two layers, n → k → outputs, where one that keeps k features needs one.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from runner.analyses.scree.cuts import ALL, Cut
from runner.models.layers import FeaturePlace, feature_places, filters_first
from runner.pruning.sweep import Sweeper, statistics
from runner.ranking import count

SVD, PCA = "SVD of weights", "PCA of activations"
_EXAMPLES = 5_000  # whose activations are looked at


@dataclass(frozen=True)
class Directions:
    """Of one place: `basis`, (n, n), a column each, the one that is kept longest first; `mean`, (n,)."""

    basis: Tensor
    mean: Tensor

    def project(self, x: Tensor, dim: int, k: int) -> Tensor:
        """x with its features, in dimension `dim`, replaced by what the first k directions hold of them."""
        first = self.basis[:, :k].to(x)
        centred = x.movedim(dim, -1) - self.mean.to(x)
        return (centred @ first @ first.T + self.mean.to(x)).movedim(-1, dim)


def of_weight(layer: nn.Module) -> Directions:
    """The right singular vectors of a layer's weight over its inputs."""
    weight = filters_first(layer, layer.weight.detach())  # type: ignore[operator]
    inputs = weight.transpose(0, 1).flatten(1).double().cpu()  # (inputs, all else)
    return Directions(torch.linalg.svd(inputs, full_matrices=True).U, torch.zeros(len(inputs), dtype=torch.float64))


@dataclass
class _Moments:
    """Sums over the activations at a place."""

    examples: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, x: Tensor, dim: int) -> None:
        rows = x.detach().movedim(dim, -1).flatten(0, -2).cpu().double()
        self.examples += len(rows)
        self.total = self.total + rows.sum(0)
        self.squares = self.squares + rows.T @ rows

    def directions(self) -> Directions:
        mean = torch.as_tensor(self.total) / self.examples
        covariance = torch.as_tensor(self.squares) / self.examples - torch.outer(mean, mean)
        return Directions(torch.linalg.eigh(covariance).eigenvectors.flip(1), mean)


@dataclass
class LowRank:
    """The directions at all places of a sweeper's network, and what is left of it with some of them."""

    sweeper: Sweeper
    places: Mapping[str, FeaturePlace]
    found: dict[str, Mapping[str, Directions]] = field(default_factory=dict)  # SVD, PCA → consumer → its directions

    @classmethod
    def of(cls, sweeper: Sweeper) -> "LowRank":
        """Look at the weights and at activations of 5,000 training examples.

        Places whose layers are grouped convolutions, which read each feature alone, are left out.
        """
        model = sweeper.model.eval()
        layers = {p.consumer: model.get_submodule(p.consumer) for p in feature_places(model)}
        there = {p.consumer: p for p in feature_places(model) if getattr(layers[p.consumer], "groups", 1) == 1}
        moments = {name: _Moments() for name in there}

        def hook(name: str) -> Any:
            return lambda module, inputs: moments[name].add(inputs[0], there[name].dim)

        with ExitStack() as stack, torch.no_grad():
            for name in there:
                stack.callback(layers[name].register_forward_pre_hook(hook(name)).remove)
            with sweeper.context():
                sweeper.task.evaluate(model, sweeper.data.eval_batches("train", _EXAMPLES))
        weights = {name: of_weight(layers[name]) for name in there}
        activations = {name: one.directions() for name, one in moments.items()}
        return cls(sweeper, there, {SVD: weights, PCA: activations})

    def measure(self, how: str, cut: Cut, together: Mapping[str, int], batch_norm: str, split: str) -> dict[str, Any]:
        """The task's metrics on a split with as many directions as a cut keeps features.

        Args:
            how: `SVD` or `PCA`.
            together: features of each place that is cut where all are.
        """
        ks = {cut.place: cut.k} if cut.place != ALL else {n: w - count(cut.sparsity, w) for n, w in together.items()}
        sweeper = self.sweeper
        with (
            self._projected(self.found[how], ks),
            sweeper.context(),
            statistics(sweeper.model, sweeper.data, batch_norm, sweeper.seed),
        ):
            return sweeper.task.evaluate(sweeper.model, sweeper.data.eval_batches(split, sweeper.limit))

    def covers(self, cut: Cut, together: Mapping[str, int]) -> bool:
        """Whether all places that are cut have directions."""
        return all(name in self.places for name in (together if cut.place == ALL else [cut.place]))

    def _projected(self, directions: Mapping[str, Directions], ks: Mapping[str, int]) -> AbstractContextManager[None]:
        return _hooked(
            {self.sweeper.model.get_submodule(name): self._change(directions, name, k) for name, k in ks.items()}
        )

    def _change(self, directions: Mapping[str, Directions], name: str, k: int) -> Any:
        one, dim = directions[name], self.places[name].dim
        return lambda module, inputs: (one.project(inputs[0], dim, k), *inputs[1:])


@contextmanager
def _hooked(hooks: Mapping[nn.Module, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for module, hook in hooks.items():
            stack.callback(module.register_forward_pre_hook(hook).remove)
        yield
