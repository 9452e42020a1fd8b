"""Other ways to features in an order: nested dropout and ordered dropout, at the places where `Tail` works.

As with TailDropout the first k features of a place are kept, nothing is rescaled, and in evaluation all pass. They
differ in the law of k, and in who shares one.
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

    Every example draws its own k at every place from a geometric law, P(k = j) = ρ (1 - ρ)^(j - 1); a k beyond the
    features keeps all of them. The paper's ρ is a number for one layer; here it is 1 / (mean · n) at a place of n
    features. Unit sweeping, which stops to train features that have converged, is left out.

    Args:
        mean: mean of k as a fraction of the features, above 0, before it is cut at all of them.
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
            # P(k > j) = (1 - ρ)^j: by one uniform number in (0, 1] feature j is kept where j < log(u) / log(1 - ρ).
            rho = min(1.0, 1 / (self.mean * n))
            shape = [1] * (x.dim() - 1)
            u = 1 - self.processes.drawn(lambda rows: torch.rand([rows, *shape], device=x.device), len(x))
            first = u.log() / math.log1p(-rho) if rho < 1 else torch.zeros_like(u)
            return x * (_positions(x, features) <= first).to(x.dtype)

        return change


class OneWidth(OrderingVariant):
    """One width at a time, at every place and for every example: the first ⌈width · n⌉ of n features are kept.

    Args:
        places: see `FeatureVariant`.
    """

    missing = ""  # what must be done before a forward pass in training

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
            kept = n - count(1 - self.now, n)  # as many as the sweep and an elastic file keep
            return x * (_positions(x, features) < kept).to(x.dtype)

        return change


class Ordered(OneWidth):
    """Ordered dropout (Horváth et al., 2021, "FjORD: fair and accurate federated learning … with ordered dropout").

    One width is drawn for every training step, uniformly from a few. Halvings, (1/8, 1/4, 1/2, 1), are the nested
    widths of `Matryoshka`, which trains all of them in every step.

    `before_step` must be called before every training step.

    Args:
        widths: fractions of the features, each above 0, at most 1; one of them is 1.
        places: see `FeatureVariant`.
    """

    missing = "draws a width for every step: call before_step(step, total) before it"

    def __init__(self, widths: Sequence[float] = (0.125, 0.25, 0.5, 1.0), places: Sequence[str] | None = None) -> None:
        super().__init__(places)
        self.widths = widths_with_1(widths)

    def before_step(self, step: int, total: int) -> None:
        """Draw the step's width."""
        # On the processor, where reading it waits for nothing.
        self.now = self.widths[int(torch.randint(len(self.widths), ()))]


def widths_with_1(widths: Sequence[float]) -> list[float]:
    """Raises: ParameterError unless they are numbers above 0, at most 1, one of them 1."""
    allowed = list_of(share())(widths)
    if allowed or 1 not in widths:
        raise ParameterError("widths", widths, f"{allowed or 'a list of numbers above 0'}, with 1 among them")
    return [float(width) for width in widths]


def _positions(x: Tensor, dim: int) -> Tensor:
    """0 … n - 1 along a dimension, so that it broadcasts over x."""
    return torch.arange(x.shape[dim], device=x.device).view([-1 if i == dim else 1 for i in range(x.dim())])
