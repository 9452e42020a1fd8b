"""A weight mask as a parametrization: removed weights are zero in every forward pass and get no gradient."""

import torch
from torch import Tensor, nn


class Mask(nn.Module):
    """Multiply a weight by the mask `kept`, which is True for kept entries and initially True everywhere.

    The multiplication, unlike zeros in the weight alone, makes the mask hold for any optimizer: changes of a removed
    weight by momentum or weight decay have no effect.
    """

    kept: Tensor  # in the shape of the weight

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones_like(weight, dtype=torch.bool))  # in the weight's memory format

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept
