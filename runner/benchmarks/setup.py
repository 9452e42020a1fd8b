"""The common setup of all rows. All objects are newly built, so that no comparison affects the next one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from runner.dropout.base import Variant
from runner.experiment import Experiment
from runner.interfaces import Task
from runner.training.loop import Training
from runner.training.schedules import Adam, decay_groups

# Training is measured late in a very long schedule, where ramps are complete and the learning rate is so close to zero
# that the weights, and with them the work per step, do not change.
_STEPS = 10**9
_LATE = 999 * 10**6


@dataclass(frozen=True)
class Setup:
    """The common setup of all rows.

    Args:
        parts: builds a new experiment from overrides of the configuration, as in setup.parts("dropout=targeted").
        dropouts: the names of the variants to measure.
        calls: the number of times that each callable of a comparison will be called.
    """

    parts: Callable[..., Experiment]
    dropouts: Sequence[str]
    calls: int


class OneBatch:
    """A data pipeline that always returns the same batch."""

    steps_per_epoch = 1
    examples_per_step = 0  # not used

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def batch(self, step: int) -> Any:
        return self._batch


def late_training(parts: Experiment) -> Training:
    """Return the experiment's `Training`, fast-forwarded to a step near its end."""
    return late(parts.training())


def late(training: Training) -> Training:
    """Fast-forward a `Training` to a step near its end and return it."""
    training.skip_to(_LATE, _STEPS)
    return training


def on_one_batch(training: Training) -> Training:
    """Make a `Training` reuse the first batch of its pipeline at every step, and return it."""
    training.batches = OneBatch(training.batches.batch(0))
    return training


def step_of(
    parts: Experiment, model: nn.Module, variant: Variant, task: Task[Any], schedule: Adam, batch: Any, examples: int
) -> Callable[[], int]:
    """Return a callable that trains a given model for one step near the end of training, always on the same batch.

    Args:
        parts: the experiment that provides the device, the precision and the data.
        model: the model, which need not come from a configuration.
        variant: the dropout variant.
        task: the task.
        schedule: the optimizer and its schedule.
        batch: the batch.
        examples: the number of examples in the batch.
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
    """Return a callable that performs a whole training step and returns the number of examples.

    A step consists of loading the batch, the forward and backward passes, and the optimizer's step.
    """
    return training.one_step
