"""Image classification: cross-entropy loss and accuracy."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.parameters import BelowOne, CountFrom0, Fraction, Positive, checked
from runner.tasks.metrics import ACCURACY, Metric


class Classification:
    """Image classification, with cross-entropy as the loss and accuracy as the metric.

    Args:
        label_smoothing: label smoothing of the training loss, in [0, 1). Validation and test losses do not include it.
        distill: weight, in [0, 1], of the distillation loss in the training loss (Hinton et al., 2015): T² times the
            Kullback-Leibler divergence between the softened probabilities of both networks. The teacher is the network
            at the beginning of training, before anything is dropped or pruned.
        temperature: T > 0, the divisor of the logits in the distillation loss.
        within: for ordered classes, such as pitches. If above 0, the fraction of examples whose predicted class is at
            most `within` away from the label is also measured, as the headline metric `within`.
    """

    kind = "images"  # of data
    output = "a logit for each class"  # of the model, for one image
    headline = "accuracy"
    metrics: tuple[Metric, ...] = (ACCURACY,)  # during training
    sweep_metrics: tuple[Metric, ...] = (ACCURACY,)  # of pruned networks

    needs_teacher = False
    teacher: nn.Module | None = None  # set by the experiment if `needs_teacher`

    @checked
    def __init__(
        self,
        label_smoothing: BelowOne = 0.0,
        distill: Fraction = 0.0,
        temperature: Positive = 2.0,
        within: CountFrom0 = 0,
    ) -> None:
        self.label_smoothing = label_smoothing
        self.distill = distill
        self.temperature = temperature
        self.needs_teacher = self.distill > 0
        self.within = within
        if within:
            self.metrics = self.sweep_metrics = (ACCURACY, Metric("within", f"accuracy within {within}", percent=True))
            self.headline = "within"

    @staticmethod
    def output_shape(classes: int, **_: Any) -> tuple[int, ...]:
        """Return the shape of `output`: (classes,)."""
        return (classes,)

    def training_loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor], int]:
        """Return the mean loss of the batch, the sums of its metrics over examples, and the number of examples."""
        inputs, labels = batch
        logits = model(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)
        if self.teacher is not None:
            loss = torch.lerp(loss, self._divergence(logits.float(), self._taught(inputs)), self.distill)
        return loss, self._correct(logits.detach(), labels), len(labels)

    def imitation_loss(self, model: nn.Module, batch: tuple[Tensor, Tensor], taught: Tensor) -> Tensor:
        """Return the cross-entropy relative to the probabilities given by another network's logits `taught`."""
        return F.cross_entropy(model(batch[0]).float(), taught.float().softmax(1))

    def _correct(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the number of correct examples for each metric."""
        distance = (logits.argmax(1) - labels).abs()
        right = {"accuracy": (distance == 0).sum()}
        return right if not self.within else {**right, "within": (distance <= self.within).sum()}

    @torch.no_grad()
    def _taught(self, inputs: Tensor) -> Tensor:
        return cast(nn.Module, self.teacher)(inputs).float()

    def _divergence(self, logits: Tensor, taught: Tensor) -> Tensor:
        own, target = (F.log_softmax(x / self.temperature, dim=1) for x in (logits, taught))
        return self.temperature**2 * F.kl_div(own, target, reduction="batchmean", log_target=True)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Return the mean loss, the metrics in [0, 1], and the number of examples over all batches."""
        loss, examples = 0.0, 0
        correct: Counter[str] = Counter()
        for inputs, labels in batches:
            logits = model(inputs).float()
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            correct.update({name: int(count) for name, count in self._correct(logits, labels).items()})
            examples += len(labels)
        shares = {name: count / examples for name, count in correct.items()}
        return {**shares, "loss": loss / examples, "examples": examples}

    validate = evaluate

    @torch.no_grad()
    def predictions(
        self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Yield the labels and the predicted classes of each batch."""
        for inputs, labels in batches:
            yield labels.tolist(), model(inputs).float().argmax(1).tolist()
