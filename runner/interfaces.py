"""The interfaces of data, tasks and schedules. Any class with these methods can be used.

A model is any `nn.Module`; see `runner.models.layers` for what it may declare. Dropout variants derive from
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
    """The batches of a training, each determined by the seed and the step."""

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps in which every example is seen once."""

    @property
    def examples_per_step(self) -> int:
        """The average number of examples per step."""

    def batch(self, step: int) -> Out:
        """Return the batch of a step, on the data's device."""


class Data(Protocol[Out]):
    """Examples in splits: "train", and "validation" and "test" where they are not empty."""

    @property
    def splits(self) -> Sequence[str]:
        """The splits that hold examples."""

    def to(self, device: torch.device) -> object:
        """Move the examples, or the batches made from them, to a device."""

    def sizes(self) -> dict[str, int]:
        """Return split → number of examples."""

    def model_arguments(self) -> dict[str, int]:
        """Return arguments for a model's constructor: `channels`, `image_size`, `classes`; or `vocabulary`."""

    def train_batches(self, batch_size: int, seed: int) -> TrainBatches[Out]:
        """Return the batches of a training."""

    def eval_batches(self, split: str, limit: int | None = None) -> Iterator[Out]:
        """Yield batches of a split's examples in order, without augmentation, up to `limit` examples."""

    def augmented_batches(self, limit: int, seed: int) -> Iterator[Out]:
        """Yield batches of about `limit` augmented training examples, which are determined by the seed."""


class Task(Protocol[In]):
    """The loss that a network is trained with, and the metrics that it is evaluated by."""

    headline: str  # the name of the metric that figures and tables show

    @property
    def metrics(self) -> Sequence[Metric | str]:
        """The metrics of an epoch, besides the loss. A plain name is a metric that is printed as it is."""

    @property
    def sweep_metrics(self) -> Sequence[Metric | str]:
        """The metrics of a pruned network."""

    def training_loss(self, model: nn.Module, batch: In) -> tuple[Tensor, Mapping[str, Tensor], int]:
        """Return the mean loss of a batch, the sums of metrics over its examples, and the number of examples."""

    def validate(self, model: nn.Module, batches: Iterable[In]) -> dict[str, Any]:
        """Return the `loss`, the `metrics` and the number of `examples` of a split, after an epoch."""

    def evaluate(self, model: nn.Module, batches: Iterable[In]) -> dict[str, Any]:
        """Return the `loss`, the `sweep_metrics` and the number of `examples` of a split.

        A task may add `samples`: readable outputs, as blocks of lines.
        """


@runtime_checkable
class Imitating(Protocol[In]):
    """A task that can also be learned from the outputs of another network."""

    def imitation_loss(self, model: nn.Module, batch: In, taught: Tensor) -> Tensor:
        """Return the mean loss of a batch whose targets are the outputs of another network."""


class Schedule(Protocol):
    """An optimizer and its learning rate schedule."""

    weight_decay: float
    clip_norm: float | None  # the maximum norm of the gradient over all parameters

    def optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Return the optimizer for the given parameter groups."""

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate of a step, 0 <= step < total."""
