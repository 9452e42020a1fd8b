"""What every row is made from: freshly built parts, so that no comparison leaves anything behind for the next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runner.experiment import Experiment
from runner.training.loop import Training

# Training is measured late in a schedule without end: ramps have reached their rates, and the learning rate is so near
# to zero that the weights, and with them the work, stay what they are.
_STEPS = 10**9
_LATE = 999 * 10**6


@dataclass(frozen=True)
class Kit:
    """What every row is made from.

    Args:
        parts: overrides of the configuration → new parts: kit.parts("dropout=targeted").
        dropouts: names of the variants to measure.
        calls: how often a comparison's callables will be called.
    """

    parts: Callable[..., Experiment]
    dropouts: Sequence[str]
    calls: int


class OneBatch:
    """Batches that are always the same."""

    steps_per_epoch = 1
    examples_per_step = 0  # nobody counts them

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def batch(self, step: int) -> Any:
        return self._batch


def late_training(parts: Experiment) -> Training:
    """The training of these parts, near its end."""
    return late(parts.training())


def late(training: Training) -> Training:
    """The same training, near its end."""
    training.skip_to(_LATE, _STEPS)
    return training


def on_one_batch(training: Training) -> Training:
    """The same training, on one batch of its pipeline, which is ready."""
    training.batches = OneBatch(training.batches.batch(0))
    return training


def one_step(training: Training) -> Callable[[], int]:
    """A whole training step: batch, forward, backward, optimiser. The callable returns the number of examples."""
    return training.one_step
