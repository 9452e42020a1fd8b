"""The interface of pruning granularities."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from runner.densities import SCOPES
from runner.models.layers import filters_first, parameter_of

Rows = dict[str, Tensor]


class Members(ABC):
    """The members of one model at one granularity, in rows that are ranked separately.

    All score and mask tensors are in contiguous order, so that a mask does not depend on a weight's memory format.

    Args:
        granularity: the name under which a dropout variant provides scores and a floor for these members.
        layers: mapping from name to layer, for all layers whose weights are counted or change when members are removed.

    Attributes:
        weights: mapping from layer name to the layer's weight.
        structured: whether members are whole filters, features or heads; only then can the network be cut.

    Raises:
        ValueError: a weight can't be written, because a dropout variant is attached.
    """

    structured = True

    def __init__(self, granularity: str, layers: Mapping[str, nn.Module]) -> None:
        self.granularity = granularity
        self.layers = layers
        self.weights: dict[str, Tensor] = {name: _weight(name, layer) for name, layer in layers.items()}

    @abstractmethod
    def magnitude(self) -> Rows:
        """Return each member's magnitude by layer, with shape (rows, members per row)."""

    @abstractmethod
    def rows(self, scores: Mapping[str, Tensor]) -> Rows:
        """Arrange a variant's scores (see `Variant.scores`) in rows."""

    def gather(self, tensors: Mapping[str, Tensor]) -> Rows:
        """Group one number per weight by member.

        Args:
            tensors: mapping from layer to a tensor of its weight's shape, with filters in dim 0.

        Returns:
            A mapping from layer to a tensor of shape (rows, members per row, entries per member). The entries of a
            feature are those of the filter that produces it.

        Raises:
            ValueError: the granularity does not define which weights belong to a member.
        """
        raise ValueError(f"{type(self).__name__} has no gather(), which this criterion needs")

    @abstractmethod
    def masks(self, removed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert boolean rows, True for removed members, to masks that broadcast over `weights`."""

    @abstractmethod
    def sparsity(self) -> float:
        """Return the fraction of members that are currently zero."""

    def entries(self) -> dict[str, int] | None:
        """Return the number of weights per member by layer, to compare members across layers; None means one."""
        return None

    def filters(self) -> dict[str, Tensor]:
        """Return the weights as views with the filters in dim 0."""
        return self.turned(self.weights)

    def norms(self) -> Rows:
        """Return the L2 norm of each member's weights, as grouped by `gather`."""
        return {name: part.norm(dim=-1) for name, part in self.gather(self.values()).items()}

    def values(self) -> dict[str, Tensor]:
        """Return the weights as detached float32 tensors with filters in dim 0."""
        return {name: weight.detach().float() for name, weight in self.filters().items()}

    def turned(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return views, with filters in dim 0, of tensors of the weights' shapes. A second call restores the shapes."""
        return {name: filters_first(self.layers[name], tensor) for name, tensor in tensors.items()}


class Granularity(Protocol):
    """The interface of a granularity, which finds the members of a model."""

    def members(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> Members:
        """Return the members in the model's prunable layers, or in the named ones; see `prunable_layers`.

        Raises:
            ValueError: the model has no members.
        """


def scopes_of(granularity: Granularity) -> tuple[str, ...]:
    """Return the scopes in which members of a granularity can be compared: its attribute `scopes`, or all scopes."""
    return getattr(granularity, "scopes", SCOPES)


def filter_matrix(weight: Tensor) -> Tensor:
    """Return a weight with filters in dim 0 as a contiguous float32 matrix (filters, entries)."""
    return weight.detach().float().contiguous().flatten(1)


def nonzero_weights(weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the number of non-zero weights and the number of all weights."""
    nonzero = sum(int(weight.count_nonzero()) for weight in weights.values())
    return nonzero, sum(weight.numel() for weight in weights.values())


def _weight(name: str, layer: nn.Module) -> Tensor:
    module, parameter = parameter_of(layer)
    if parameter not in module._parameters:  # anything written into it would be lost
        raise ValueError(
            f"the weight of layer {name!r} is computed from other parameters; if a dropout variant is still "
            "attached, detach() it first"
        )
    weight: Tensor = getattr(module, parameter)
    return weight
