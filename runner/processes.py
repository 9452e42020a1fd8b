"""The processes that share one training, as a training and its dropout variant see them.

Nearly always there is one, for which everything here does nothing. `runner.training.distributed` has the case of
several: each computes with some rows of every batch, and together they take the step that one would.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

Value = TypeVar("Value")


class OneProcess:
    """A training in one process.

    `rank` is the process's number, `count` how many there are. The first one alone reads and writes the run folder.
    """

    rank = 0
    count = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    # --- what is drawn and summed in a step ----------------------------------------------------------------------

    def drawn(self, draw: Callable[[int], Tensor], rows: int) -> Tensor:
        """Random numbers for rows of a batch: `draw(n)` makes them for n rows, in dim 0.

        Several processes each draw them for the whole batch and take those of their own rows.
        """
        return draw(rows)

    def dropped(self, function: Callable[[Tensor, float], Tensor], x: Tensor, p: float) -> Tensor:
        """Rows of a batch after F.dropout or one of its kin."""
        return function(x, p)

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over processes, as of gradients of the loss."""
        return tensor

    def mean_of_rows(self, tensor: Tensor) -> Tensor:
        """The mean over all rows of the batch, of means over the rows of each process."""
        return tensor

    # --- the training step ---------------------------------------------------------------------------------------

    def join(self, network: nn.Module) -> nn.Module:
        """The network as it is called in training steps."""
        return network

    def own_rows(self, batch: Value) -> Value:
        """The rows of a batch that this process computes with."""
        return batch

    def summed(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sums over examples, of all processes."""
        return values

    def share_of(self, loss: Tensor, examples: int, total: Tensor) -> Tensor:
        """What to minimise, so that the mean gradient of all processes is that of the mean over all examples.

        Args:
            loss: mean over this process's examples.
            total: number of examples of all processes.
        """
        return loss

    def rows_of_all(self, examples: int) -> int:
        """About how many examples all processes have, without waiting for them."""
        return examples

    def check_alike(self) -> None:
        """Raises: UserError if the processes have drawn different amounts of random numbers in this step."""

    # --- the run -------------------------------------------------------------------------------------------------

    @contextmanager
    def leading(self) -> Iterator[None]:
        """A context of the first process: an error in it ends those that wait to hear from it."""
        yield

    def tell(self, value: Any) -> None:
        """Tell the other processes something."""

    def together(self, work: Callable[[], Value]) -> Value:
        """Do what every process does; goes on only if none has failed."""
        return work()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """A context in which another process may end: raises UserError then."""
        yield

    def leave(self) -> None:
        """End what is done together; the network is as it was before `join`."""


ALONE = OneProcess()
