"""Terms of the loss that go with any dropout variant."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from runner.models.computation import computation_order
from runner.parameters import NotNegative, checked


class NoRegularizer:
    """regularizer=none."""

    example: Callable[[], tuple[Tensor, ...]] | None = None  # arguments of the model's forward; the experiment gives it

    def attach(self, model: nn.Module) -> None:
        """Look at the plain model's weights, before a variant attaches."""

    def penalty(self) -> Tensor | float:
        """A term of the loss."""
        return 0.0


class L1(NoRegularizer):
    """cost · Σ over weight matrices of mean |W|: a mean a matrix, as the official code has it, not a sum.

    Over all convolutions and linear layers, the stem included, but the last in the order of computation (of
    registration, where no example is given), the logits. The raw weights count, so a dropped one is still pulled to
    zero.

    Args:
        cost: the paper's β, at least 0; 0.1 in its weight column, 0.01 in its unit column.
    """

    @checked
    def __init__(self, cost: NotNegative = 0.1) -> None:
        self.cost = cost
        self.weights: list[Tensor] = []

    def attach(self, model: nn.Module) -> None:
        kinds = nn.Linear | nn.modules.conv._ConvNd
        matrices = {name: module for name, module in model.named_modules() if isinstance(module, kinds)}
        logits: Iterable[str] = list(matrices)[-1:]
        if self.example is not None:
            layers = {name: (module, "weight") for name, module in matrices.items()}
            logits = computation_order(model, layers, self.example())[-1]
        self.weights = [module.weight for name, module in matrices.items() if name not in logits]

    def penalty(self) -> Tensor | float:
        if self.cost == 0:
            return 0.0
        return self.cost * torch.stack([weight.abs().mean() for weight in self.weights]).sum()
