"""What data, tasks and schedules offer to experiments, training and pruning. Any class that has these methods will do.

Models are any `nn.Module`, see `runner.models.layers` for what they may declare; dropout variants derive from
`runner.dropout.base.Variant`; criteria and granularities are described in `runner.pruning`, callbacks in
`runner.training.callbacks`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from runner.tasks.metrics import Metric

# What a task understands: (inputs, labels) for images, a PairBatch for sentences.
Out = TypeVar("Out", covariant=True)
In = TypeVar("In", contravariant=True)


class TrainBatches(Protocol[Out]):
    """The batches of a training, a function of the seed and the step."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps that see every example once."""

    @property
    def examples_per_step(self) -> int:
        """Examples of a step, on average."""

    def batch(self, step: int) -> Out:
        """The batch of a step, on the data's device."""


class Data(Protocol[Out]):
    """Examples in splits: "train", and "validation" and "test" where they are not empty."""

    @property
    def splits(self) -> Sequence[str]:
        """The splits that hold examples."""

    def to(self, device: torch.device) -> object:
        """Put the examples, or the batches that are made of them, on a device."""

    def sizes(self) -> dict[str, int]:
        """Split → number of examples."""

    def model_arguments(self) -> dict[str, int]:
        """What a model's constructor must know: `channels`, `image_size`, `classes`; or `vocabulary`."""

    def train_batches(self, batch_size: int, seed: int) -> TrainBatches[Out]:
        """The batches of a training."""

    def eval_batches(self, split: str, limit: int | None = None) -> Iterator[Out]:
        """A split's examples in order, not augmented; the first `limit` of them."""

    def augmented_batches(self, limit: int, seed: int) -> Iterator[Out]:
        """About `limit` training examples as training sees them, the same for the same seed."""


class Task(Protocol[In]):
    """What the network is to do, and what counts as good."""

    headline: str  # name of the metric that figures and tables show

    @property
    def metrics(self) -> Sequence[Metric | str]:
        """The metrics of an epoch, besides the loss; a name alone is a metric that is printed as it is."""

    @property
    def sweep_metrics(self) -> Sequence[Metric | str]:
        """The metrics of a pruned network."""

    def training_loss(self, model: nn.Module, batch: In) -> tuple[Tensor, Mapping[str, Tensor], int]:
        """The mean loss of a batch, sums of metrics over its examples, and their number."""

    def validate(self, model: nn.Module, batches: Iterable[In]) -> dict[str, Any]:
        """`loss`, `metrics` and `examples` of a split, after an epoch."""

    def evaluate(self, model: nn.Module, batches: Iterable[In]) -> dict[str, Any]:
        """`loss`, `sweep_metrics` and `examples` of a split; `samples`, blocks of lines for people, if it has any."""


@runtime_checkable
class Imitating(Protocol[In]):
    """A task that can also be learned from the outputs of another network."""

    def imitation_loss(self, model: nn.Module, batch: In, taught: Tensor) -> Tensor:
        """The mean loss of a batch, of which another network's outputs are the targets."""


class Schedule(Protocol):
    """An optimiser, and its learning rate over training."""

    weight_decay: float
    clip_norm: float | None  # of the gradient, over all parameters

    def optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """The optimiser of some parameter groups."""

    def rate(self, step: int, total: int) -> float:
        """The learning rate of a step, 0 <= step < total."""
