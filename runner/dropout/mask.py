"""The mask of a weight as a parametrization: what it removes is zero in every forward pass and gets no gradient."""

import torch
from torch import Tensor, nn


class Mask(nn.Module):
    """Multiplies a weight by `kept`, True for what stays; everything stays at first.

    The product, rather than zeros in the weight alone, makes the mask hold for any optimiser: what momentum or weight
    decay do to a removed weight has no effect.
    """

    kept: Tensor  # shaped as the weight

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones_like(weight, dtype=torch.bool))  # in the weight's memory format

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept
