"""Schedules: the optimiser, its learning rate over the course of training, and gradient clipping."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import nn

from runner.parameters import BelowOne, Fraction, NotNegative, Positive, checked
from runner.rules import above, between, choice, either, list_of

DECAYS = ("cosine", "inverse_square_root", "none")
ClipNorm = Annotated[float | None, either(None, above(0))]
Betas = Annotated[Sequence[float], list_of(between(0, 1, open_end=True), low=2)]
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two parameter groups, the second without weight decay for the parameters of normalisation layers.

    Groups are determined by module, so call this before a variant is attached. Parametrizations keep the identity of
    the parameters.
    """
    plain = {id(p) for module in model.modules() if isinstance(module, _NORMS) for p in module.parameters()}
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if id(p) not in plain], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) in plain], "weight_decay": 0.0},
    ]


class _SGD:
    def __init__(
        self, learning_rate: float, momentum: float, nesterov: bool, weight_decay: float, clip_norm: float | None
    ) -> None:
        self.peak = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            groups, lr=self.peak, momentum=self.momentum, nesterov=self.nesterov and self.momentum > 0
        )


class OneCycle(_SGD):
    """SGD with a one-cycle learning rate: linear warm-up, then cosine decay to zero (after Smith & Topin, 2018).

    Args:
        learning_rate: the peak learning rate.
        warmup: fraction of the steps over which the learning rate rises.
        weight_decay: weight decay of all layers except normalisation layers.
        clip_norm: maximum global gradient norm, or None.
    """

    @checked
    def __init__(
        self,
        learning_rate: Positive = 0.2,
        warmup: Fraction = 0.25,
        momentum: BelowOne = 0.9,
        nesterov: bool = True,
        weight_decay: NotNegative = 5e-4,
        clip_norm: ClipNorm = None,
    ) -> None:
        super().__init__(learning_rate, momentum, nesterov, weight_decay, clip_norm)
        self.warmup = warmup

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate of a step, 0 <= step < total."""
        rising = self.warmup * total
        if step + 1 <= rising:
            return self.peak * (step + 1) / rising
        falling = (step - rising) / (total - rising)
        return self.peak * (1 + math.cos(math.pi * max(0.0, falling))) / 2


class StepDecay(_SGD):
    """SGD whose learning rate is multiplied by `factor` at each of `drops` (fractions of the steps).

    The defaults are those of the paper's code for ResNet-32; its Wide ResNets use a factor of 0.2.
    """

    @checked
    def __init__(
        self,
        learning_rate: Positive = 0.4,
        drops: Annotated[Sequence[float], list_of(between(0, 1), low=0)] = (0.4, 0.6, 0.8),
        factor: Fraction = 0.1,
        momentum: BelowOne = 0.9,
        nesterov: bool = False,
        weight_decay: NotNegative = 2e-4,
        clip_norm: ClipNorm = 1.0,
    ) -> None:
        super().__init__(learning_rate, momentum, nesterov, weight_decay, clip_norm)
        self.drops = tuple(drops)
        self.factor = factor

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate of a step, 0 <= step < total."""
        return self.peak * self.factor ** sum(step / total >= drop for drop in self.drops)


class Adam:
    """Adam (Kingma & Ba, 2015) with a linear warm-up followed by a decay of the learning rate.

    Args:
        learning_rate: the peak learning rate.
        warmup: fraction of the steps over which the learning rate rises.
        decay: "cosine" falls to zero at the end; "inverse_square_root" is proportional to step^−1/2, as for the
            original Transformer (Vaswani et al., 2017, eq. 3); "none" keeps the peak.
        betas: decay rates of the two moments.
        epsilon: added to the square root of the second moment.
        weight_decay: L2 penalty of all layers except normalisation layers.
        clip_norm: maximum global gradient norm, or None.
        decoupled: whether weight decay is applied separately from the gradient, as in AdamW (Loshchilov & Hutter,
            2019).
    """

    @checked
    def __init__(
        self,
        learning_rate: Positive = 1e-3,
        warmup: Fraction = 0.1,
        decay: Annotated[str, choice(*DECAYS)] = "cosine",
        betas: Betas = (0.9, 0.999),
        epsilon: Positive = 1e-8,
        weight_decay: NotNegative = 0.0,
        clip_norm: ClipNorm = None,
        decoupled: bool = False,
    ) -> None:
        self.peak = learning_rate
        self.warmup = warmup
        self.decay = decay
        self.betas = (betas[0], betas[1])
        self.epsilon = epsilon
        self.decoupled = decoupled
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        adam = torch.optim.AdamW if self.decoupled else torch.optim.Adam
        return adam(groups, lr=self.peak, betas=self.betas, eps=self.epsilon)

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate of a step, 0 <= step < total."""
        rising = self.warmup * total
        if step + 1 <= rising:
            return self.peak * (step + 1) / rising
        if self.decay == "cosine":
            return self.peak * (1 + math.cos(math.pi * max(0.0, step - rising) / (total - rising))) / 2
        return self.peak * (math.sqrt(max(1.0, rising) / (step + 1)) if self.decay == "inverse_square_root" else 1.0)
