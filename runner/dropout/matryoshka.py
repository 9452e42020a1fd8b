"""Matryoshka representations and slimmable networks: several widths are trained in every step, at the places of `Tail`.

As in TailDropout, the first features of a place are kept, nothing is rescaled, and all features pass in evaluation. A
step computes the whole network once per width, so that a step with n widths costs as much as n steps of another
variant. The loss is the mean over the widths, whereas the papers use the sum. Gradients are then as large as for a
single width, so that the same learning rate can be used.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from runner.dropout.nested import OneWidth, widths_with_1
from runner.errors import ParameterError
from runner.interfaces import Imitating, Task
from runner.parameters import CountFrom0, checked
from runner.rules import above, either, list_of, share

_MISSING = "computes several widths in a step: call training_loss(task, model, batch) for the loss"


class Matryoshka(OneWidth):
    """Matryoshka representations (Kusupati et al., 2022): every step combines the losses of several widths.

    The paper has a single place, the representation, and computes the layers before it once. Here the whole network is
    computed for each width, as required for places inside a network (MatFormer, Devvrit et al., 2023). BatchNorm's
    running statistics are averages over the widths.

    Args:
        widths: fractions of the features, each above 0 and at most 1, including 1. The paper uses successive halves.
        weights: the loss weight of each width, c_m in the paper's equation 1, above 0. Only the ratios matter. None
            means equal weights.
        places: see `FeatureVariant`.
    """

    missing = _MISSING

    @checked
    def __init__(
        self,
        widths: Sequence[float] = (0.125, 0.25, 0.5, 1.0),
        weights: Annotated[Sequence[float] | None, either(None, list_of(above(0)))] = None,
        places: Sequence[str] | None = None,
    ) -> None:
        super().__init__(places)
        self.widths = widths_with_1(widths)
        if weights is not None and len(weights) != len(self.widths):
            raise ParameterError("weights", weights, f"{len(self.widths)} numbers, one for each of the widths")
        given = [1.0] * len(self.widths) if weights is None else weights
        self.weights = [weight / sum(given) for weight in given]

    def training_loss(self, task: Task[Any], model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor], int]:
        """Return the weighted mean loss over the widths, and the metrics of the whole network."""
        total: Tensor | float = 0.0
        for width, weight in zip(self.widths, self.weights, strict=True):
            self.now = width
            loss, found, examples = task.training_loss(model, batch)
            total = total + weight * loss
            if width == 1:
                metrics = found
        assert isinstance(total, Tensor)
        self.now = None
        return total, metrics, examples


class Slimmable(OneWidth):
    """Universally slimmable networks (Yu & Huang, 2019): the sandwich rule, with in-place distillation.

    Every step trains the whole network, the narrowest width and a few random widths in between. The narrower widths
    learn from the outputs of the whole network in the same step if the task supports this (classification,
    reconstruction), otherwise from the targets. Only the pass of the whole network updates BatchNorm's running
    statistics. The paper measures the statistics of other widths after training. Here, the sweep's
    `batch_norm=recalibrated` and elastic files do the same. A separate BatchNorm for each width (Yu et al., 2019,
    "Slimmable neural networks") is not implemented.

    Args:
        narrowest: the smallest fraction of the features, above 0 and at most 1.
        random: the number of random widths per step, drawn uniformly between `narrowest` and 1; two in the paper.
        distill: whether narrower widths learn from the outputs of the whole network.
        places: see `FeatureVariant`.
    """

    missing = _MISSING

    @checked
    def __init__(
        self,
        narrowest: Annotated[float, share()] = 0.25,
        random: CountFrom0 = 2,
        distill: bool = True,
        places: Sequence[str] | None = None,
    ) -> None:
        super().__init__(places)
        self.narrowest, self.random, self.distill = float(narrowest), random, distill

    def training_loss(self, task: Task[Any], model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor], int]:
        """Return the mean loss over the widths, and the metrics of the whole network."""
        drawn = self.narrowest + (1 - self.narrowest) * torch.rand(self.random)
        outputs: list[Tensor] = []
        hook = model.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        try:
            self.now = 1.0
            total, metrics, examples = task.training_loss(model, batch)
        finally:
            hook.remove()
        with _statistics_kept(model):
            for width in (*drawn.tolist(), self.narrowest):
                self.now = width
                if self.distill and isinstance(task, Imitating):
                    total = total + task.imitation_loss(model, batch, outputs[0].detach())
                else:
                    total = total + task.training_loss(model, batch)[0]
        self.now = None
        return total / (2 + self.random), metrics, examples


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """A context manager under which BatchNorm uses batch statistics but does not update its running statistics."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta, counts = [], []
    for layer in layers:
        momenta.append(layer.momentum)
        counts.append(None if layer.num_batches_tracked is None else layer.num_batches_tracked.clone())
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum, seen in zip(layers, momenta, counts, strict=True):
            layer.momentum = momentum
            if seen is not None and layer.num_batches_tracked is not None:
                layer.num_batches_tracked.copy_(seen)
