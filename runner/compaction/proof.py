"""Check whether two networks compute the same outputs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Proof:
    """The differences between the outputs of two networks.

    Attributes:
        examples: number of examples that were compared.
        absolute: the largest difference of any output.
        relative: the largest difference of a batch divided by the largest absolute output of that batch, for the batch
            where this ratio is largest.
        same_choice: number of examples (or sequence positions) whose largest output has the same index.
        choices: number of examples (or positions) that were compared in this way.
        parameters, expected_parameters: number of parameters of the compact network, as counted and as computed from
            its structure.
    """

    examples: int
    absolute: float
    relative: float
    same_choice: int
    choices: int
    parameters: int
    expected_parameters: int

    @property
    def holds(self) -> bool:
        """Whether the outputs agree within the relative `TOLERANCE` and the number of parameters is as expected."""
        return self.relative <= TOLERANCE and self.parameters == self.expected_parameters


@torch.no_grad()
def prove(
    reference: nn.Module, network: nn.Module, batches: Iterable[Sequence[Tensor]], expected_parameters: int
) -> Proof:
    """Compare the outputs of two networks in evaluation mode.

    Args:
        batches: arguments of the networks' `forward`.
        expected_parameters: number of parameters that the network should have; see `costs.expected_parameters`.

    Raises:
        ValueError: there are no batches, or an output isn't finite.
    """
    reference.eval(), network.eval()
    examples, absolute, relative, same, choices = 0, 0.0, 0.0, 0, 0
    for batch in batches:
        for a, b in zip(tree_leaves(reference(*batch)), tree_leaves(network(*batch)), strict=True):
            difference, largest = float((a - b).abs().max()), float(a.abs().max())
            if not difference < float("inf"):
                raise ValueError("an output is not finite; nothing can be proved")
            absolute = max(absolute, difference)
            if difference:
                relative = max(relative, difference / largest if largest else float("inf"))
            hits = a.argmax(-1) == b.argmax(-1)
            same, choices = same + int(hits.sum()), choices + hits.numel()
        examples += len(batch[0])
    if not examples:
        raise ValueError("there is no batch to compare on")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Proof(examples, absolute, relative, same, choices, parameters, expected_parameters)
