"""A parametrization that masks a weight: removed entries are zero in every forward pass and get no gradient."""

import torch
from torch import Tensor, nn


class Mask(nn.Module):
    """Multiply a weight by the mask `kept`, which is True for kept entries and initially True everywhere.

    Unlike zeroing the weight itself, multiplication works with any optimizer: changes that momentum or weight decay
    makes to a removed weight have no effect.
    """

    kept: Tensor  # in the shape of the weight

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones_like(weight, dtype=torch.bool))  # in the weight's memory format

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept
