"""Low-rank layers that keep k directions instead of k features, by SVD of the weights or PCA of the activations.

A layer has n input features, y = W x. TailDropout keeps k of them. Keeping k directions of x instead is a projection
before the layer, x → m + P Pᵀ (x − m), which gives the weight rank k:

- SVD: the columns of P are the first k right singular vectors of W, and m = 0. W P Pᵀ is the best rank-k approximation
  of W (Eckart & Young, 1936). No data is needed. A convolution's weight is reshaped to a matrix of its input channels
  by all other dimensions.
- PCA: the columns of P are the first k principal components of the training activations x, and m is their mean.

Such a network needs two layers, n → k → outputs, instead of one layer for k features.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from runner.analyses.scree.cuts import ALL, Cut
from runner.analyses.scree.pca import Moments
from runner.models.layers import FeaturePlace, feature_places, filters_first
from runner.pruning.sweep import Sweeper, statistics
from runner.ranking import count

SVD, PCA = "SVD of weights", "PCA of activations"
_EXAMPLES = 5_000  # number of examples for PCA


@dataclass(frozen=True)
class Directions:
    """The directions at one place: `basis` (n, n), whose columns are sorted by importance, and `mean` (n,)."""

    basis: Tensor
    mean: Tensor

    def project(self, x: Tensor, dim: int, k: int) -> Tensor:
        """Project the features of x, in dimension `dim`, onto the first k directions."""
        first = self.basis[:, :k].to(x)
        centred = x.movedim(dim, -1) - self.mean.to(x)
        return (centred @ first @ first.T + self.mean.to(x)).movedim(-1, dim)


def of_weight(layer: nn.Module) -> Directions:
    """Return the right singular vectors of a layer's weight."""
    weight = filters_first(layer, layer.weight.detach())  # type: ignore[operator]
    inputs = weight.transpose(0, 1).flatten(1).double().cpu()  # (inputs, other dimensions)
    return Directions(torch.linalg.svd(inputs, full_matrices=True).U, torch.zeros(len(inputs), dtype=torch.float64))


def _of_activations(moments: Moments) -> Directions:
    mean, components = moments.principal()
    return Directions(components, mean)


@dataclass
class LowRank:
    """The directions at all places of a sweeper's network, and evaluation with the first of them."""

    sweeper: Sweeper
    places: Mapping[str, FeaturePlace]
    found: dict[str, Mapping[str, Directions]] = field(default_factory=dict)  # SVD, PCA → consumer → its directions

    @classmethod
    def of(cls, sweeper: Sweeper) -> "LowRank":
        """Compute the directions from the weights and from the activations on 5,000 training examples.

        Places whose layers are grouped convolutions are left out, because these read each feature separately.
        """
        model = sweeper.model.eval()
        layers = {p.consumer: model.get_submodule(p.consumer) for p in feature_places(model)}
        there = {p.consumer: p for p in feature_places(model) if getattr(layers[p.consumer], "groups", 1) == 1}
        moments = {name: Moments() for name in there}

        def hook(name: str) -> Any:
            return lambda module, inputs: moments[name].add(inputs[0].movedim(there[name].dim, -1).flatten(0, -2))

        with _hooked({layers[name]: hook(name) for name in there}), torch.no_grad(), sweeper.context():
            sweeper.task.evaluate(model, sweeper.data.eval_batches("train", _EXAMPLES))
        weights = {name: of_weight(layers[name]) for name in there}
        activations = {name: _of_activations(one) for name, one in moments.items()}
        return cls(sweeper, there, {SVD: weights, PCA: activations})

    def measure(self, how: str, cut: Cut, together: Mapping[str, int], batch_norm: str, split: str) -> dict[str, Any]:
        """Return the task's metrics on a split, with as many directions as the cut keeps features.

        Args:
            how: `SVD` or `PCA`.
            together: the number of features at each place that belongs to "all".
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
        """Return whether directions are available at all places of a cut."""
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
