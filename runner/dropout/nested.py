"""Nested dropout and ordered dropout: two other ways to order the features at the places of `Tail`.

As in TailDropout, the first k features of a place are kept, nothing is rescaled, and all features pass in evaluation.
The variants differ in the distribution of k and in which examples and places share the same k.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from runner.dropout.features import OrderingVariant
from runner.errors import ParameterError
from runner.models.layers import FeaturePlace
from runner.parameters import Positive, checked
from runner.ranking import count
from runner.rules import list_of, share


class Nested(OrderingVariant):
    """Nested dropout (Rippel, Gelbart & Adams, 2014, "Learning ordered representations with nested dropout").

    For every example and place, k is drawn from a geometric distribution, P(k = j) = ρ (1 - ρ)^(j - 1). A k larger than
    the number of features keeps all of them. In the paper, ρ is a constant for a single layer. Here it is
    1 / (mean · n) for a place with n features. Unit sweeping, which stops training features that have converged, is not
    implemented.

    Args:
        mean: the mean of k as a fraction of the number of features, above 0, before k is clipped to that number.
        places: see `FeatureVariant`.
    """

    @checked
    def __init__(self, mean: Positive = 0.5, places: Sequence[str] | None = None) -> None:
        super().__init__(places)
        self.mean = mean

    def change_at(self, place: FeaturePlace, consumer: nn.Module) -> Callable[[Tensor, bool], Tensor]:
        def change(x: Tensor, training: bool) -> Tensor:
            if not training:
                return x
            features = place.dim % x.dim()
            n = x.shape[features]
            # P(k > j) = (1 - ρ)^j: given u, uniform in (0, 1], feature j is kept if j < log(u) / log(1 - ρ).
            rho = min(1.0, 1 / (self.mean * n))
            shape = [1] * (x.dim() - 1)
            u = 1 - self.processes.drawn(lambda rows: torch.rand([rows, *shape], device=x.device), len(x))
            first = u.log() / math.log1p(-rho) if rho < 1 else torch.zeros_like(u)
            return x * (_positions(x, features) <= first).to(x.dtype)

        return change


class OneWidth(OrderingVariant):
    """A variant with one width at a time for all places and examples: the first ⌈width · n⌉ of n features are kept.

    Args:
        places: see `FeatureVariant`.
    """

    missing = ""  # error message: what must be done before a forward pass in training

    def __init__(self, places: Sequence[str] | None = None) -> None:
        super().__init__(places)
        self.now: float | None = None  # the width of the next forward pass in training

    def change_at(self, place: FeaturePlace, consumer: nn.Module) -> Callable[[Tensor, bool], Tensor]:
        def change(x: Tensor, training: bool) -> Tensor:
            if not training:
                return x
            if self.now is None:
                raise RuntimeError(f"{type(self).__name__} {self.missing}")
            features = place.dim % x.dim()
            n = x.shape[features]
            kept = n - count(1 - self.now, n)  # the same number as in the sweep and in an elastic file
            return x * (_positions(x, features) < kept).to(x.dtype)

        return change


class Ordered(OneWidth):
    """Ordered dropout (Horváth et al., 2021, "FjORD: fair and accurate federated learning … with ordered dropout").

    For every training step, one width is drawn uniformly from a few. The default, (1/8, 1/4, 1/2, 1), are the nested
    widths of `Matryoshka`, which trains all of them in every step.

    `before_step` must be called before every training step.

    Args:
        widths: fractions of the features, each above 0 and at most 1, including 1. A width that is listed several times
            is drawn that much more often.
        places: see `FeatureVariant`.
    """

    missing = "draws a width for every step: call before_step(step, total) before it"

    def __init__(self, widths: Sequence[float] = (0.125, 0.25, 0.5, 1.0), places: Sequence[str] | None = None) -> None:
        super().__init__(places)
        self.widths = widths_with_1(widths)

    def before_step(self, step: int, total: int) -> None:
        """Draw the width for this step."""
        # On the CPU, where reading it does not synchronize with a GPU.
        self.now = self.widths[int(torch.randint(len(self.widths), ()))]


def widths_with_1(widths: Sequence[float]) -> list[float]:
    """Return the widths. Raise ParameterError unless they are numbers above 0 and at most 1 that include 1."""
    allowed = list_of(share())(widths)
    if allowed or 1 not in widths:
        raise ParameterError("widths", widths, f"{allowed or 'a list of numbers above 0'}, with 1 among them")
    return [float(width) for width in widths]


def _positions(x: Tensor, dim: int) -> Tensor:
    """Return 0 … n - 1 along a dimension, in a shape that broadcasts over x."""
    return torch.arange(x.shape[dim], device=x.device).view([-1 if i == dim else 1 for i in range(x.dim())])
