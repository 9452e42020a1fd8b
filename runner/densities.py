"""How a network's sparsity is shared out among its layers, in training and in the sweep alike."""

from collections.abc import Mapping

import torch

# uniform and erk: a layer's members are compared with one another; global: those of all layers together.
SCOPES = ("layer", "uniform", "erk", "global")


def erk_densities(shapes: Mapping[str, torch.Size], density: float) -> dict[str, float]:
    """Each layer's density by the Erdős–Rényi kernel (Evci et al., 2020, section 3).

    It goes with (inputs + outputs + kernel height + width) / (inputs · outputs · height · width), so narrow layers
    stay denser; layers that would pass 1 are dense.

    Args:
        shapes: layer name → shape of its weight.
        density: of the whole, in [0, 1].

    Returns:
        layer name → density in [0, 1]; none falls as `density` rises.
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
    """Each layer's sparsity where the whole has `fraction`: the same ("uniform"), or by `erk_densities` ("erk")."""
    if scope == "erk":
        return {name: 1 - density for name, density in erk_densities(shapes, 1 - fraction).items()}
    return dict.fromkeys(shapes, fraction)
