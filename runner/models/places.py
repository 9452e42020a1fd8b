"""Feature places of networks for images."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from torch import nn

from runner.models.layers import FeaturePlace


def chain(names: Sequence[str], dim: int) -> list[FeaturePlace]:
    """The places between layers that follow each other, in forward order; in between, features are only normalised,
    activated and pooled, each by itself."""
    return [FeaturePlace(consumer, producer, dim) for producer, consumer in pairwise(names)]


def inside_blocks(blocks: nn.Sequential, name: str) -> list[FeaturePlace]:
    """The places inside residual blocks, whose convolutions are called conv1, conv2, …; between blocks there are none,
    as what the shortcut carries is consumed by every later block."""
    return [place for index, block in enumerate(blocks) for place in chain(_convolutions(block, f"{name}.{index}"), 1)]


def layers_in(sequence: Iterable[nn.Module], name: str) -> list[str]:
    """Names of a sequence's convolutions and linear layers."""
    return [f"{name}.{i}" for i, module in enumerate(sequence) if isinstance(module, nn.Conv2d | nn.Linear)]


def _convolutions(block: nn.Module, name: str) -> list[str]:
    return [f"{name}.{child}" for child, _ in block.named_children() if child.startswith("conv")]
