"""Feature places of image networks."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from torch import nn

from runner.models.layers import FeaturePlace


def chain(names: Sequence[str], dim: int) -> list[FeaturePlace]:
    """Return the places between consecutive layers, in forward order.

    Between these layers, features are only normalised, activated and pooled, each separately.
    """
    return [FeaturePlace(consumer, producer, dim) for producer, consumer in pairwise(names)]


def inside_blocks(blocks: nn.Sequential, name: str) -> list[FeaturePlace]:
    """Return the places inside residual blocks, whose convolutions are named conv1, conv2, ….

    There are no places between blocks, because every later block reads the features that the shortcut carries.
    """
    return [place for index, block in enumerate(blocks) for place in chain(_convolutions(block, f"{name}.{index}"), 1)]


def layers_in(sequence: Iterable[nn.Module], name: str) -> list[str]:
    """Return the names of a sequence's convolutions and linear layers."""
    return [f"{name}.{i}" for i, module in enumerate(sequence) if isinstance(module, nn.Conv2d | nn.Linear)]


def _convolutions(block: nn.Module, name: str) -> list[str]:
    return [f"{name}.{child}" for child, _ in block.named_children() if child.startswith("conv")]
