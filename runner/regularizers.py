"""Terms of the loss that go with any dropout variant."""

import torch
from torch import Tensor, nn

from runner.parameters import NotNegative, checked


class NoRegularizer:
    """regularizer=none."""

    def attach(self, model: nn.Module) -> None:
        """Look at the plain model's weights, before a variant attaches."""

    def penalty(self) -> Tensor | float:
        """A term of the loss."""
        return 0.0


class L1(NoRegularizer):
    """cost · Σ over weight matrices of mean |W|: a mean a matrix, as the official code has it, not a sum.

    Over all convolutions and linear layers, the stem included, but the last, the logits. The raw weights count, so a
    dropped one is still pulled to zero.

    Args:
        cost: the paper's β, at least 0; 0.1 in its weight column, 0.01 in its unit column.
    """

    @checked
    def __init__(self, cost: NotNegative = 0.1) -> None:
        self.cost = cost
        self.weights: list[Tensor] = []

    def attach(self, model: nn.Module) -> None:
        matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
        self.weights = matrices[:-1]

    def penalty(self) -> Tensor | float:
        if self.cost == 0:
            return 0.0
        return self.cost * torch.stack([weight.abs().mean() for weight in self.weights]).sum()
