"""Rules that distribute a network's sparsity over its layers, used both in training and in the sweep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a table of runs is quick without it
    import torch

# uniform and erk compare the members of each layer with one another; global compares those of all layers.
SCOPES = ("layer", "uniform", "erk", "global")


def erk_densities(shapes: Mapping[str, torch.Size], density: float) -> dict[str, float]:
    """Return each layer's density by the Erdős–Rényi kernel (Evci et al., 2020, section 3).

    It is proportional to (inputs + outputs + kernel height + width) / (inputs · outputs · height · width), so that
    narrow layers stay denser. Layers whose density would exceed 1 are dense.

    Args:
        shapes: the shape of each layer's weight, by layer name.
        density: the density of the whole network, in [0, 1].

    Returns:
        the density of each layer in [0, 1], by layer name. It is non-decreasing in `density`.
    """
    sizes = {name: shape.numel() for name, shape in shapes.items()}
    dense: set[str] = set()
    while True:
        wanted = density * sum(sizes.values()) - sum(sizes[name] for name in dense)
        raw = {name: sum(shape) / shape.numel() for name, shape in shapes.items() if name not in dense}
        if not raw:
            return dict.fromkeys(shapes, 1.0)
        scale = wanted / sum(raw[name] * sizes[name] for name in raw)
        over = {name for name, value in raw.items() if scale * value > 1}
        if not over:
            return {name: 1.0 if name in dense else scale * raw[name] for name in shapes}
        dense |= over


def layer_fractions(scope: str, shapes: Mapping[str, torch.Size], fraction: float) -> dict[str, float]:
    """Return each layer's sparsity for a network sparsity of `fraction`.

    It is equal in all layers for the scope "uniform", and follows `erk_densities` for "erk".
    """
    if scope == "erk":
        return {name: 1 - density for name, density in erk_densities(shapes, 1 - fraction).items()}
    return dict.fromkeys(shapes, fraction)
