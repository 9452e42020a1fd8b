"""The interface between training or dropout variants and the processes that share a training run.

Usually there is only one process, and the methods here need no communication. `runner.training.distributed` implements
them for several processes: each one computes some rows of every batch, and together they take the step that a single
process would take.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

Value = TypeVar("Value")


class OneProcess:
    """Training in a single process.

    If there are several processes, only the first one reads and writes the run folder.

    Attributes:
        rank: the index of this process, starting at 0.
        count: the number of processes.
    """

    rank = 0
    count = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    # --- random numbers and sums in a step -----------------------------------------------------------------------

    def drawn(self, draw: Callable[[int], Tensor], rows: int) -> Tensor:
        """Return random numbers for rows of a batch, where `draw(n)` draws a tensor with n rows in dim 0.

        With several processes, each one draws numbers for the whole batch and keeps those of its own rows.
        """
        return draw(rows)

    def dropped(self, function: Callable[[Tensor, float], Tensor], x: Tensor, p: float) -> Tensor:
        """Apply `function`, which is F.dropout or a similar function, to the rows of a batch."""
        return function(x, p)

    def mean(self, tensor: Tensor) -> Tensor:
        """Average a tensor over processes, as is done for gradients of the loss."""
        return tensor

    def mean_of_rows(self, tensor: Tensor) -> Tensor:
        """Return the mean over all rows of the batch, given the mean over the rows of this process."""
        return tensor

    # --- the training step ---------------------------------------------------------------------------------------

    def join(self, network: nn.Module) -> nn.Module:
        """Return the network that training steps call; with several processes, a DistributedDataParallel wrapper."""
        return network

    def own_rows(self, batch: Value) -> Value:
        """Select the rows of a batch that this process computes."""
        return batch

    def summed(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the sum of each value over all processes. Each value is a sum over this process's examples."""
        return values

    def share_of(self, loss: Tensor, examples: int, total: Tensor) -> Tensor:
        """Scale a loss so that the mean of all processes' gradients is the gradient of the mean over all examples.

        Args:
            loss: the mean over this process's examples.
            examples: the number of this process's examples.
            total: the number of examples of all processes.
        """
        return loss

    def rows_of_all(self, examples: int) -> int:
        """Estimate the number of examples across all processes from that in this process, without synchronizing."""
        return examples

    def check_alike(self) -> None:
        """Raise UserError if the random number generators of the processes are in different states."""

    # --- the run -------------------------------------------------------------------------------------------------

    @contextmanager
    def leading(self) -> Iterator[None]:
        """A context manager for the first process. An error inside it also ends the processes that wait for it."""
        yield

    def tell(self, value: Any) -> None:
        """Send a value to the other processes."""

    def together(self, work: Callable[[], Value]) -> Value:
        """Call `work` in every process, and return its result only if it has succeeded in all of them."""
        return work()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """A context manager that raises UserError if another process ends."""
        yield

    def leave(self) -> None:
        """Leave the group of processes and undo `join`."""


ALONE = OneProcess()
