"""What every row is made from: freshly built parts, so that no comparison leaves anything behind for the next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from runner.dropout.base import Variant
from runner.experiment import Experiment
from runner.interfaces import Task
from runner.training.loop import Training
from runner.training.schedules import Adam, decay_groups

# Training is measured late in a schedule without end: ramps have reached their rates, and the learning rate is so near
# to zero that the weights, and with them the work, stay what they are.
_STEPS = 10**9
_LATE = 999 * 10**6


@dataclass(frozen=True)
class Setup:
    """What every row is made from.

    Args:
        parts: overrides of the configuration → new parts: setup.parts("dropout=targeted").
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


def step_of(
    parts: Experiment, model: nn.Module, variant: Variant, task: Task[Any], schedule: Adam, batch: Any, examples: int
) -> Callable[[], int]:
    """A training step, near the training's end, of a model that no configuration names, always on the same batch.

    Args:
        parts: whose device and precision it has.
        examples: of the batch.
    """
    training = Training(
        model=model.to(parts.device),
        variant=variant,
        data=parts.data,
        task=task,
        schedule=schedule,
        batches=OneBatch(batch),
        steps=1,
        groups=decay_groups(model, schedule.weight_decay),
        seed=0,
        device=parts.device,
        precision=parts.precision,
        examples_per_step=examples,
    )
    return one_step(late(training.attach()))


def one_step(training: Training) -> Callable[[], int]:
    """A whole training step: batch, forward, backward, optimiser. The callable returns the number of examples."""
    return training.one_step
