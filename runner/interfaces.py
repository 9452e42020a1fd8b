"""The interfaces of data sets, tasks and schedules. Any class with these methods can be used.

A model is any `nn.Module`; `runner.models.layers` describes what it may declare. Dropout variants derive from
`runner.dropout.base.Variant`. Criteria and granularities are described in `runner.pruning`, callbacks in
`runner.training.callbacks`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from runner.tasks.metrics import Metric

# The type of a batch: (inputs, labels) for images, a PairBatch for sentences.
Out = TypeVar("Out", covariant=True)
In = TypeVar("In", contravariant=True)


class TrainBatches(Protocol[Out]):
    """The training batches. Each one is determined by the seed and the step."""

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps in one pass over the examples."""

    @property
    def examples_per_step(self) -> int:
        """The average number of examples per step."""

    def batch(self, step: int) -> Out:
        """Return the batch of a step, on the data's device."""


class Data(Protocol[Out]):
    """A data set with the split "train" and, if they are not empty, "validation" and "test"."""

    @property
    def splits(self) -> Sequence[str]:
        """The names of the non-empty splits."""

    def to(self, device: torch.device) -> object:
        """Move the examples, or the batches produced from them, to a device."""

    def sizes(self) -> dict[str, int]:
        """Return the number of examples in each split."""

    def model_arguments(self) -> dict[str, int]:
        """Return arguments for a model's constructor, e.g. `channels`, `image_size` and `classes`, or `vocabulary`."""

    def train_batches(self, batch_size: int, seed: int) -> TrainBatches[Out]:
        """Return the training batches."""

    def eval_batches(self, split: str, limit: int | None = None) -> Iterator[Out]:
        """Yield the first `limit` examples of a split (all if None) in batches, in a fixed order, not augmented."""

    def augmented_batches(self, limit: int, seed: int) -> Iterator[Out]:
        """Yield about `limit` training examples in batches, with augmentation (if any) determined by the seed."""


class Task(Protocol[In]):
    """The training loss and the evaluation metrics of a network."""

    headline: str  # the name of the metric that figures and tables show

    @property
    def metrics(self) -> Sequence[Metric | str]:
        """Per-epoch metrics other than the loss. A string stands for the metric of that name."""

    @property
    def sweep_metrics(self) -> Sequence[Metric | str]:
        """The metrics of a pruned network."""

    def training_loss(self, model: nn.Module, batch: In) -> tuple[Tensor, Mapping[str, Tensor], int]:
        """Return the mean loss of a batch, the metrics summed over its examples, and the number of examples."""

    def validate(self, model: nn.Module, batches: Iterable[In]) -> dict[str, Any]:
        """Return the `loss`, the `metrics` and the number of `examples` of a split; called after an epoch."""

    def evaluate(self, model: nn.Module, batches: Iterable[In]) -> dict[str, Any]:
        """Return the `loss`, the `sweep_metrics` and the number of `examples` of a split.

        A task may add `samples`: human-readable outputs, each a block of lines.
        """


@runtime_checkable
class Imitating(Protocol[In]):
    """A task that also supports learning from the outputs of another network."""

    def imitation_loss(self, model: nn.Module, batch: In, taught: Tensor) -> Tensor:
        """Return the mean loss of a batch, with the outputs of another network as targets."""


class Schedule(Protocol):
    """An optimizer and its learning rate schedule."""

    weight_decay: float
    clip_norm: float | None  # the maximum norm of the gradient over all parameters

    def optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Return the optimizer for the given parameter groups."""

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate at a step, where 0 <= step < total."""
