"""RigL: Evci et al. (2020), "Rigging the lottery": a sparse network that moves its connections while it trains.

Every layer starts with a random mask of its density: `uniform`, or `erk` (Erdős–Rényi kernel), where a layer's density
goes with (inputs + outputs + kernel height + width) / (inputs · outputs · height · width), so that narrow layers stay
denser. At each of `updates` equally spaced steps until progress `end`, of every layer's active weights the fraction

    drop / 2 · (1 + cos(π t / end))

of smallest magnitude is dropped, and as many of the inactive ones (the dropped among them) with the largest gradient of
the loss grow, from zero. A weight that is dropped and grown in the same update keeps its value and its state in the
optimiser, as in the official code (`reinit_when_same=False`); the state of the others that move starts anew. The
optimiser's step follows, where Evci et al. leave it out. The number of active weights never changes; the mask holds
exactly, momentum and weight decay included.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from runner.densities import erk_densities
from runner.dropout.base import WeightVariant
from runner.dropout.mask import Mask
from runner.models.layers import filters_first
from runner.parameters import fraction, one_of, whole
from runner.ranking import count, lowest

DISTRIBUTIONS = ("erk", "uniform")


class _Connections(Mask):
    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self.watches = False
        self.active_weights = weight.numel()  # never changes; counting them would wait for a GPU
        self.effective: Tensor | None = None  # of this forward pass, when its dense gradient is wanted

    def forward(self, weight: Tensor) -> Tensor:
        effective = super().forward(weight)
        if self.watches and self.training and effective.requires_grad:
            effective.retain_grad()
            self.effective = effective
        return effective


class RigL(WeightVariant):
    """Args:
    sparsity: of all prunable weights together, in [0, 1].
    distribution: "erk" or "uniform".
    drop: the fraction of a layer's active weights that the first update moves, in [0, 1]; 0.3 in the paper's code.
    end: the progress of the last update, in [0, 1]; 0.75 in the paper.
    updates: how many.
    """

    granularities: tuple[str, ...] = ("weight",)
    baked = True

    def __init__(
        self,
        sparsity: float = 0.9,
        distribution: str = "erk",
        drop: float = 0.3,
        end: float = 0.75,
        updates: int = 50,
    ) -> None:
        super().__init__()
        self.sparsity = fraction("sparsity", sparsity)
        self.drop = fraction("drop", drop)
        self.end = fraction("end", end)
        self.distribution = one_of("distribution", distribution, DISTRIBUTIONS)
        self.updates = whole("updates", updates)
        self.moved = 0.0  # the fraction that this step moves; 0: no update

    def parametrization(self, weight: Tensor) -> nn.Module:
        return _Connections(weight)

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        super().attach(model, layers, example)
        shapes = {name: self.raw_weight(layer).shape for name, layer in self.layers.items()}
        densities = dict.fromkeys(shapes, 1 - self.sparsity)
        if self.distribution == "erk":
            densities = erk_densities(shapes, 1 - self.sparsity)
        for name, connections in self.parametrizations().items():
            weight = self.raw_weight(self.layers[name])
            removed = count(1 - densities[name], weight.numel())
            drawn = lowest(torch.rand(1, weight.numel(), device=weight.device), removed)
            connections.kept.copy_(~drawn.view(weight.shape))
            connections.active_weights = weight.numel() - removed
            with torch.no_grad():
                weight.masked_fill_(~connections.kept, 0)

    def before_step(self, step: int, total: int) -> None:
        last = self.end * total
        due = 0 < step <= last and int(step * self.updates / last) != int((step - 1) * self.updates / last)
        self.moved = self.drop / 2 * (1 + math.cos(math.pi * step / last)) if due else 0.0
        for connections in self.parametrizations().values():
            connections.watches = self.moved > 0

    @torch.no_grad()
    def after_backward(self, optimizer: Optimizer) -> None:
        if self.moved == 0:
            return
        for name, connections in self.parametrizations().items():
            if connections.effective is not None and connections.effective.grad is not None:
                self._move(self.layers[name], connections, optimizer)
            connections.effective = None

    def _move(self, layer: nn.Module, connections: _Connections, optimizer: Optimizer) -> None:
        assert connections.effective is not None
        active, weight, parameter = connections.kept, self.raw_weight(layer), self.raw_parameter(layer)
        k = min(count(self.moved, connections.active_weights), weight.numel() - connections.active_weights)
        if k == 0:
            return
        magnitude = weight.abs().masked_fill(~active, math.inf).reshape(1, -1)
        dropped = lowest(magnitude, k).view(weight.shape)
        stays = active & ~dropped
        gradient = self.processes.mean(connections.effective.grad).abs()  # type: ignore[arg-type]
        grown = lowest(-gradient.masked_fill(stays, -1).reshape(1, -1), k).view(weight.shape)
        changed = dropped ^ grown  # a weight that is dropped and grown at once stays as it is
        active.copy_(stays | grown)
        changed = filters_first(layer, changed)
        parameter.masked_fill_(changed, 0)
        if parameter.grad is not None:
            parameter.grad.masked_fill_(changed, 0)
        for state in optimizer.state.get(parameter, {}).values():
            if isinstance(state, Tensor) and state.shape == parameter.shape:
                state.masked_fill_(changed, 0)
