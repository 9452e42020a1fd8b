"""Targeted dropout for any granularity: groups of weights (2:4), blocks, attention heads or features.

This extends the idea of Gomez et al. (2019) to patterns that are not in the paper. In every forward pass in training,
the floor(γ n) members of smallest magnitude in every row are targeted, and each is dropped as a whole with probability
α. The granularity defines rows and magnitudes, so training and the sweep agree. The remaining members are not rescaled.
In evaluation, all targeted members are zero while the variant is attached.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from runner.config import choices
from runner.dropout.base import UntilChanged
from runner.dropout.rates import RatedVariant, Rates
from runner.errors import ConfigError, ParameterError
from runner.models.layers import filters_first
from runner.pruning.granularities.base import Granularity, Members
from runner.ranking import count, lowest, sortable


class _Dropped:
    """The currently dropped members of all layers, kept jointly because a head has weights in four layers."""

    def __init__(self, members: Members, rates: Rates) -> None:
        self.members = members
        self.rates = rates
        self._drawn: dict[str, Tensor] = {}  # masks of the current forward pass in training
        # Layers that have read them outside a pass of the whole model; None in such a pass.
        self._read: set[str] | None = set()
        self.kept = UntilChanged()  # masks of evaluation

    def start(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Draw once for a training pass of the whole model; its forward pre-hook."""
        if model.training:
            self._draw()
        self._read = None

    def end(self, model: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """End a pass of the whole model; its forward hook."""
        self._drawn, self._read = {}, set()

    def _draw(self) -> None:
        targeted = self._targeted()
        drop = {
            n: rows & (torch.rand(rows.shape, device=rows.device) < self.rates.alpha) for n, rows in targeted.items()
        }
        self._drawn = self.members.masks(drop)

    def mask(self, name: str, training: bool) -> Tensor | None:
        """Return the mask of a layer, which broadcasts over its weight and is True for dropped members, if it has one.

        Where parts of a model are called one by one, a layer that reads its mask again begins another pass.
        """
        if not training:
            weights = self.members.weights.values()
            return self.kept.get(self.rates.gamma, weights, lambda: self.members.masks(self._targeted())).get(name)
        if self._read is not None:
            if not self._drawn or name in self._read:
                self._draw()
                self._read.clear()
            self._read.add(name)
        return self._drawn.get(name)

    @torch.no_grad()
    def _targeted(self) -> dict[str, Tensor]:
        magnitudes = self.members.magnitude()
        return {
            name: lowest(sortable(rows), count(self.rates.gamma, rows.shape[1])) for name, rows in magnitudes.items()
        }


class _Masked(nn.Module):
    def __init__(self, dropped: _Dropped) -> None:
        super().__init__()
        self.dropped = dropped
        self.name = ""
        self.layer: tuple[nn.Module, ...] = ()  # in a tuple, so that it is not registered as a submodule

    def forward(self, weight: Tensor) -> Tensor:
        mask = self.dropped.mask(self.name, self.training)
        return weight if mask is None else weight * ~filters_first(self.layer[0], mask)


class TargetedGroups(RatedVariant):
    """Targeted dropout for one granularity, ramping if `ramp` is given.

    Args:
        granularity: a choice of `prune.granularity`, as a name or as a mapping with parameters (`{n_of_m: {m: 8}}`), or
            a granularity object in Python.
        alpha: drop rate α, in [0, 1].
        gamma: targeted fraction γ of every row, in [0, 1]; 0.5 with groups of four weights means 2:4.
        ramp: as for `Targeted`.
    """

    def __init__(
        self,
        granularity: str | Mapping[str, Any] | Granularity = "n_of_m",
        alpha: float = 0.66,
        gamma: float = 0.5,
        ramp: Sequence[float] | None = None,
    ) -> None:
        super().__init__(Rates(alpha, gamma, ramp))
        self.granularity, self.granularities = find_granularity(granularity)

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        self.check_detached()
        members = self.granularity.members(model, layers, example)
        self._dropped = _Dropped(members, self.rates)
        super().attach(model, members.layers)
        # Bound methods, so that a deep copy of the model has hooks of its own.
        self.hooks.append(model.register_forward_pre_hook(self._dropped.kept.start))
        self.hooks.append(model.register_forward_pre_hook(self._dropped.start))
        self.hooks.append(model.register_forward_hook(self._dropped.end, always_call=True))

    def parametrization(self, weight: Tensor) -> nn.Module:
        return _Masked(self._dropped)

    def attach_layer(self, name: str, layer: nn.Module) -> None:
        super().attach_layer(name, layer)
        masked = self.parametrization_in(layer)
        masked.name, masked.layer = name, (layer,)

    def floor(self, granularity: str) -> float:
        return self.gamma if granularity == self.granularities[0].partition("(")[0] else 0.0


def find_granularity(granularity: str | Mapping[str, Any] | Granularity) -> tuple[Granularity, tuple[str]]:
    """Return the granularity object and a tuple that contains its key."""
    if not isinstance(granularity, str | Mapping):
        return granularity, (type(granularity).__name__,)
    try:
        (part,) = choices.settle("granularity", granularity)
        return choices.make("granularity", part), (part["key"],)
    except (ConfigError, ValueError):
        allowed = f"one of {', '.join(choices.names('granularity'))}, or one with its parameters"
        raise ParameterError("granularity", granularity, allowed) from None
