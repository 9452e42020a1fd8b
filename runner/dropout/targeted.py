"""Targeted dropout: Gomez et al. (2019), sections 2.3 and 4; official code `targeted_weight`, `targeted_unit`.

With drop rate α and targeted fraction γ, in every forward pass in training:

- weights: in every filter w_o the floor(γ n) entries of smallest |W_io| are targeted, and each is dropped with
  probability α;
- units: in every layer the floor(γ m) filters of smallest ‖w_o‖₂ are targeted, and each is dropped as a whole with
  probability α. With `element`, individual weights of the targeted filters are dropped instead, as in the official
  code but contrary to the paper's formula Y = (X ⊙ M) W.

The remaining members are *not* rescaled, because dropped members are not meant to come back. There is one mask per
layer and forward pass, shared by the batch. In evaluation, all targeted members are zero while the variant is attached,
as in the official code. Dropped weights get no gradient from the loss in that step, but weight decay still applies.

Ramping (the paper's "ramping targeted dropout"; official `targeted_weight_piecewise`), with progress t = step / total:
γ_t rises linearly to 95 % of γ until t = ramp[0], and then to γ until t = ramp[1]; α_t rises linearly from 0 to α until
t = ramp[2]. The code's 20,000 and 40,000 of 100,000 steps are 0.2 and 0.4.

Two options for weights go beyond the paper: `scope`, which determines the entries that are compared with each other,
and a ramp of γ that rises fast at first and slowly at the end, as in gradual magnitude pruning (Zhu & Gupta, 2018): γ_t
= γ (1 − (1 − t / ramp[1])³).
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from runner.dropout.rates import RatedVariant, Rates
from runner.models.layers import matrices_in
from runner.parameters import one_of
from runner.ranking import count, like_weight, lowest, rows, sortable

if TYPE_CHECKING:
    from runner.dropout.scopes import Joint

SCOPES = ("filter", "uniform", "erk", "global")


class TargetWeights(nn.Module):
    """Drop targeted entries of a raw weight at random in training, and all of them in evaluation.

    Args:
        rates: the drop rate and targeted fraction.
        joint: the object that finds the targeted entries of all layers jointly. None means that each filter is handled
            separately.
        name: the layer's name, for `joint`.
    """

    def __init__(self, rates: Rates, joint: "Joint | None" = None, name: str = "") -> None:
        super().__init__()
        self.rates = rates
        self.joint = joint
        self.name = name

    def scores(self, weight: Tensor) -> Tensor:
        """Return non-negative scores (filters, entries) in the order of `rows`; the lowest per filter are targeted."""
        return rows(weight).abs()

    def gamma(self, n: int) -> float:
        """Return the targeted fraction of a filter with n entries."""
        return self.rates.gamma

    def forward(self, weight: Tensor) -> Tensor:
        if self.training and self.rates.alpha == 0:
            return weight
        dropped = self._targeted(weight.detach())
        if dropped is None:
            return weight
        if self.training and self.rates.alpha < 1:
            dropped = dropped & (torch.rand(dropped.shape, device=weight.device) < self.rates.alpha)
        # A product keeps the weight's memory format, unlike masked_fill, and takes a sixth of the time.
        return weight * like_weight(~dropped, weight)

    def _targeted(self, weight: Tensor) -> Tensor | None:
        """Return a mask (filters, entries) of the targeted entries, in the order of `rows`; None if there are none."""
        if self.joint is not None:
            return self.joint.targeted(self.name, self.rates.gamma)
        scores = self.scores(weight)
        k = count(self.gamma(scores.shape[1]), scores.shape[1])
        return lowest(sortable(scores), k) if k else None


class TargetUnits(nn.Module):
    """Drop targeted filters of a raw weight at random in training, and all of them in evaluation.

    Filters are compared within each of the weight's `matrices`; see `matrices_in`. With `element`, individual weights
    of the targeted filters are dropped in training.
    """

    def __init__(self, rates: Rates, element: bool = False) -> None:
        super().__init__()
        self.rates = rates
        self.element = element
        self.matrices = 1

    def scores(self, weight: Tensor) -> Tensor:
        """Return scores (filters,); the filters with the lowest scores are targeted."""
        return rows(weight).float().norm(dim=1)  # as in the sweep, also for bf16

    def forward(self, weight: Tensor) -> Tensor:
        if self.training and self.rates.alpha == 0:
            return weight
        k = count(self.rates.gamma, len(weight) // self.matrices)
        if k == 0:
            return weight
        dropped = lowest(self.scores(weight.detach()).view(self.matrices, -1), k).view(-1, 1)
        if self.training and self.rates.alpha < 1:
            shape = (len(weight), weight[0].numel() if self.element else 1)
            dropped = dropped & (torch.rand(shape, device=weight.device) < self.rates.alpha)
        return weight * like_weight(~dropped, weight)


def _joint(scope: str) -> "Joint":
    from runner.dropout.scopes import Joint  # imports torch._dynamo, which takes a second or two

    return Joint(scope)


class Targeted(RatedVariant):
    """Targeted weight dropout, ramping if `ramp` is given.

    Args:
        alpha: drop rate α, in [0, 1].
        gamma: targeted fraction γ, in [0, 1].
        ramp: the fractions of training at which γ reaches 95 % of its final value, γ reaches 100 % and α reaches 100 %.
            A ramp requires a call of `before_step(step, total)` before every step.
        scope: which entries are compared with each other: those of a "filter", as in the paper; those of a layer, with
            the same γ in every layer ("uniform") or with γ set by the Erdős–Rényi kernel ("erk", see `erk_densities`);
            or those of all layers ("global").
        ramp_shape: "linear", as in the paper, or "cubic": γ_t = γ (1 − (1 − t / ramp[1])³), where ramp[0] is not used.
    """

    granularities: tuple[str, ...] = ("weight",)

    def __init__(
        self,
        alpha: float = 0.66,
        gamma: float = 0.75,
        ramp: Sequence[float] | None = None,
        scope: str = "filter",
        ramp_shape: str = "linear",
    ) -> None:
        super().__init__(Rates(alpha, gamma, ramp, ramp_shape))
        self.scope = "layer" if one_of("scope", scope, SCOPES) == "filter" else scope
        self._joint = None if scope == "filter" else _joint(scope)

    def parametrization(self, weight: Tensor) -> nn.Module:
        return TargetWeights(self.rates, self._joint)

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        super().attach(model, layers, example)
        if self._joint is not None:
            self.hooks.append(model.register_forward_pre_hook(self._joint.kept.start))

    def attach_layer(self, name: str, layer: nn.Module) -> None:
        super().attach_layer(name, layer)
        module = self.parametrization_in(layer)
        if isinstance(module, TargetUnits):
            module.matrices = matrices_in(layer)
        elif self._joint is not None:
            module.name = name
            self._joint.layers[name] = layer

    def floor(self, granularity: str) -> float:
        return self.gamma if granularity in self.granularities else 0.0

    def detach(self) -> None:
        super().detach()
        if self._joint is not None:
            self._joint.clear()


class TargetedUnit(Targeted):
    """Targeted unit dropout, ramping if `ramp` is given.

    Args:
        alpha, gamma, ramp: as for `Targeted`.
        element: whether to drop individual weights of the targeted filters, as in the official code, instead of whole
            filters.
    """

    granularities = ("unit",)

    def __init__(
        self, alpha: float = 0.90, gamma: float = 0.75, element: bool = False, ramp: Sequence[float] | None = None
    ) -> None:
        super().__init__(alpha, gamma, ramp)
        self.element = element

    def parametrization(self, weight: Tensor) -> nn.Module:
        return TargetUnits(self.rates, self.element)
