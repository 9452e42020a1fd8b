"""Regularization terms that can be combined with any dropout variant."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from runner.models.computation import computation_order
from runner.parameters import NotNegative, checked


class NoRegularizer:
    """No regularization (regularizer=none)."""

    example: Callable[[], tuple[Tensor, ...]] | None = None  # arguments of the model's forward; set by the experiment

    def attach(self, model: nn.Module) -> None:
        """Do nothing; subclasses record the model's weights here. Called before a variant is attached."""

    def penalty(self) -> Tensor | float:
        """Return the term that is added to the loss, 0 by default."""
        return 0.0


class L1(NoRegularizer):
    """L1 regularization: cost · Σ over weight matrices of mean |W|.

    Each matrix contributes its mean, not its sum, as in the official code. All convolutions and linear layers are
    included, even the stem. The only exception is the layer that computes the logits, i.e. the last one in the order of
    computation (or of registration, if no example is given). The penalty uses the raw weights, so dropped weights are
    pulled towards zero too.

    Args:
        cost: β in Gomez et al. (2019), at least 0; there, 0.1 in the weight column and 0.01 in the unit column.
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
        if self.cost == 0 or not self.weights:
            return 0.0
        return self.cost * torch.stack([weight.abs().mean() for weight in self.weights]).sum()
