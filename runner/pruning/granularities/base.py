"""The interface between a granularity and everything that ranks, masks and counts."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from runner.densities import SCOPES
from runner.models.layers import filters_first, parameter_of

Rows = dict[str, Tensor]


class Members(ABC):
    """The members of one model under one granularity, in rows that are ranked each for itself.

    All score and mask tensors are in contiguous order, so that a mask does not depend on a weight's memory format.

    Args:
        granularity: the name under which a dropout variant gives scores and a floor for these members.
        layers: name → layer: all whose weights change when members are removed, or are counted.

    Attributes:
        structured: whether members are whole filters, features or heads, without which a network can be cut smaller.

    Raises:
        ValueError: a weight can't be written, as a dropout variant is attached.
    """

    structured = True

    def __init__(self, granularity: str, layers: Mapping[str, nn.Module]) -> None:
        self.granularity = granularity
        self.layers = layers
        self.weights: dict[str, Tensor] = {name: _weight(name, layer) for name, layer in layers.items()}

    @abstractmethod
    def magnitude(self) -> Rows:
        """Each member's magnitude, (rows, members of a row)."""

    @abstractmethod
    def rows(self, scores: Mapping[str, Tensor]) -> Rows:
        """Scores as a variant gives them, see `Variant.scores`, arranged in rows."""

    def gather(self, tensors: Mapping[str, Tensor]) -> Rows:
        """A number for each weight, as the numbers of each member.

        Args:
            tensors: layer → of its weight's shape, filters in dim 0.

        Returns:
            layer → (rows, members of a row, entries of a member); of a feature those of the filter that makes it.

        Raises:
            ValueError: the granularity does not say which weights a member is of.
        """
        raise ValueError(f"{type(self).__name__} has no gather(), which this criterion needs")

    @abstractmethod
    def masks(self, removed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Boolean rows, True for what is removed, as masks that broadcast over `weights`."""

    @abstractmethod
    def sparsity(self) -> float:
        """The fraction of the members that are zero now."""

    def entries(self) -> dict[str, int] | None:
        """Weights a member, by layer, for comparing members of different layers; None: one."""
        return None

    def filters(self) -> dict[str, Tensor]:
        """The weights as views that have the filters in dim 0."""
        return self.turned(self.weights)

    def norms(self) -> Rows:
        """The L2 norm of each member's weights, as `gather` finds them."""
        return {name: part.norm(dim=-1) for name, part in self.gather(self.values()).items()}

    def values(self) -> dict[str, Tensor]:
        """The weights as numbers to compute with: float32, filters in dim 0, without gradients."""
        return {name: weight.detach().float() for name, weight in self.filters().items()}

    def turned(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the weights' shapes as views that have the filters in dim 0; those back in the weights' shapes."""
        return {name: filters_first(self.layers[name], tensor) for name, tensor in tensors.items()}


class Granularity(Protocol):
    """Finds the members of a model."""

    def members(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> Members:
        """The members in the model's prunable layers, or in the named ones; see `runner.models.layers.prunable_layers`.

        Raises:
            ValueError: the model has none.
        """


def scopes_of(granularity: Granularity) -> tuple[str, ...]:
    """The scopes in which members of a granularity can be compared: its `scopes`, or all."""
    return getattr(granularity, "scopes", SCOPES)


def filter_matrix(weight: Tensor) -> Tensor:
    """A weight that has its filters in dim 0 as (filters, entries), float32, in contiguous order."""
    return weight.detach().float().contiguous().flatten(1)


def nonzero_weights(weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """How many weights are not zero, and how many there are."""
    nonzero = sum(int(weight.count_nonzero()) for weight in weights.values())
    return nonzero, sum(weight.numel() for weight in weights.values())


def _weight(name: str, layer: nn.Module) -> Tensor:
    module, parameter = parameter_of(layer)
    if parameter not in module._parameters:  # what is written into it would be lost
        raise ValueError(
            f"the weight of layer {name!r} is computed from other parameters; if a dropout variant is still "
            "attached, detach() it first"
        )
    weight: Tensor = getattr(module, parameter)
    return weight
