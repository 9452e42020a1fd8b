"""Image classification: cross-entropy, accuracy."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.parameters import BelowOne, CountFrom0, Fraction, Positive, checked
from runner.tasks.metrics import ACCURACY, Metric


class Classification:
    """Cross-entropy to learn by, accuracy to judge by.

    Args:
        label_smoothing: in [0, 1), of the training loss; the reported loss is without it.
        distill: the share of the training loss, in [0, 1], that is not about labels but about the teacher's outputs
            (Hinton et al., 2015): T² times the Kullback-Leibler divergence of both networks' softened probabilities.
            The teacher is the network that training begins with, before anything is dropped or pruned.
        temperature: T, above 0, that logits are divided by for it.
        within: above 0, for classes that are ordered, such as pitches: `within`, the share of the examples whose class
            is at most so many from the label's, is measured, too, and is the headline.
    """

    kind = "images"  # of data
    output = "a logit for each class"  # of the model, for one image
    headline = "accuracy"
    metrics: tuple[Metric, ...] = (ACCURACY,)  # while training
    sweep_metrics: tuple[Metric, ...] = (ACCURACY,)  # of a pruned network

    needs_teacher = False
    teacher: nn.Module | None = None  # is given by the experiment where one is needed

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
        """The shape of `output`: (classes,)."""
        return (classes,)

    def training_loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor], int]:
        """Returns the mean loss of the batch, sums over examples of its metrics, and how many examples."""
        inputs, labels = batch
        logits = model(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)
        if self.teacher is not None:
            loss = torch.lerp(loss, self._divergence(logits.float(), self._taught(inputs)), self.distill)
        return loss, self._correct(logits.detach(), labels), len(labels)

    def imitation_loss(self, model: nn.Module, batch: tuple[Tensor, Tensor], taught: Tensor) -> Tensor:
        """The cross-entropy between another network's probabilities, of which `taught` are the logits, and the own."""
        return F.cross_entropy(model(batch[0]).float(), taught.float().softmax(1))

    def _correct(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """How many examples count as right, by metric."""
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
        """The mean loss, the metrics in [0, 1], and the number of examples, over all batches."""
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
        """For each batch the labels, and the classes of the largest logits."""
        for inputs, labels in batches:
            yield labels.tolist(), model(inputs).float().argmax(1).tolist()
