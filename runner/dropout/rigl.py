"""RigL (Evci et al., 2020, "Rigging the lottery"): a sparse network whose connections move during training.

Every layer starts with a random mask. Its density is the same in all layers (`uniform`), or follows the Erdős–Rényi
kernel (`erk`): it is proportional to (inputs + outputs + kernel height + width) / (inputs · outputs · height · width),
so that narrow layers stay denser. At each of `updates` equally spaced steps until progress `end`, the fraction

    drop / 2 · (1 + cos(π t / end))

of every layer's active weights, those of smallest magnitude, is dropped. As many inactive weights (possibly including
those just dropped), those with the largest gradients of the loss, become active and start from zero. A weight that is
dropped and grown in the same update keeps its value and its optimizer state, as in the official code
(`reinit_when_same=False`); the optimizer state of the others that change is reset. The optimizer's step follows,
whereas Evci et al. skip it. The number of active weights never changes, and the mask holds exactly, also with momentum
and weight decay.
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
        self.active_weights = weight.numel()  # constant; counting them would synchronize with a GPU
        # The masked weights of all passes of a step that needs their dense gradient: a layer may be called more than
        # once, and gradients may be accumulated over several batches.
        self.effective: list[Tensor] = []

    def forward(self, weight: Tensor) -> Tensor:
        effective = super().forward(weight)
        if self.watches and self.training and effective.requires_grad:
            effective.retain_grad()
            self.effective.append(effective)
        return effective

    def gradient(self) -> Tensor | None:
        """Return the dense gradient of the step, or None if the weight was not used."""
        found = [effective.grad for effective in self.effective if effective.grad is not None]
        return torch.stack(found).sum(0) if found else None


class RigL(WeightVariant):
    """Sparse training with a fixed number of active weights, by RigL.

    Args:
        sparsity: the sparsity of all prunable weights together, in [0, 1].
        distribution: "erk" or "uniform".
        drop: the initial fraction, in [0, 1], of a layer's active weights that an update moves; 0.3 in the paper's
            code.
        end: the progress of the last update, in [0, 1]; 0.75 in the paper.
        updates: the number of updates.
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
        self.moved = 0.0  # the fraction that the current step moves; 0 means no update

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
            connections.effective.clear()

    @torch.no_grad()
    def after_backward(self, optimizer: Optimizer) -> None:
        if self.moved == 0:
            return
        for name, connections in self.parametrizations().items():
            gradient = connections.gradient()
            if gradient is not None:
                self._move(self.layers[name], connections, gradient, optimizer)
            connections.effective.clear()

    def _move(self, layer: nn.Module, connections: _Connections, gradient: Tensor, optimizer: Optimizer) -> None:
        active, weight, parameter = connections.kept, self.raw_weight(layer), self.raw_parameter(layer)
        k = min(count(self.moved, connections.active_weights), weight.numel() - connections.active_weights)
        if k == 0:
            return
        magnitude = weight.abs().masked_fill(~active, math.inf).reshape(1, -1)
        dropped = lowest(magnitude, k).view(weight.shape)
        stays = active & ~dropped
        gradient = self.processes.mean(gradient).abs()
        grown = lowest(-gradient.masked_fill(stays, -1).reshape(1, -1), k).view(weight.shape)
        changed = dropped ^ grown  # a weight that is dropped and grown in the same update does not change
        active.copy_(stays | grown)
        changed = filters_first(layer, changed)
        parameter.masked_fill_(changed, 0)
        if parameter.grad is not None:
            parameter.grad.masked_fill_(changed, 0)
        for state in optimizer.state.get(parameter, {}).values():
            if isinstance(state, Tensor) and state.shape == parameter.shape:
                state.masked_fill_(changed, 0)
