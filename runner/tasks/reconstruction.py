"""Reconstruction of images by an autoencoder: mean squared error."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.tasks.metrics import MSE, Metric


class Reconstruction:
    """The squared error, mean over pixels and channels, to learn and to judge by; labels are not looked at.

    With `data.normalize=pixel` it is in units of the largest pixel value squared.
    """

    kind = "images"
    output = "a reconstruction of each image"
    headline = "mse"
    metrics: tuple[Metric, ...] = (MSE,)
    sweep_metrics: tuple[Metric, ...] = (MSE,)

    @staticmethod
    def output_shape(
        channels: int = 1, image_size: int = 1, classes: int = 0, input_shape: Sequence[int] | None = None
    ) -> tuple[int, ...]:
        """The shape of `output`: that of an input, (channels, image_size, image_size) of an image."""
        return (channels, image_size, image_size) if input_shape is None else tuple(input_shape)

    def training_loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor], int]:
        """Returns the mean loss of the batch, sums over examples of its metrics, and how many examples."""
        images, _ = batch
        loss = F.mse_loss(model(images).float(), images)
        return loss, {"mse": loss.detach() * len(images)}, len(images)

    def imitation_loss(self, model: nn.Module, batch: tuple[Tensor, Tensor], taught: Tensor) -> Tensor:
        """The mean squared error from another network's reconstructions."""
        return F.mse_loss(model(batch[0]).float(), taught.float())

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The mean squared error, as `mse` and as `loss`, and the number of examples, over all batches."""
        total, examples = 0.0, 0
        for images, _ in batches:
            errors = (model(images).float() - images).square().flatten(1).mean(1)
            total += float(errors.sum(dtype=torch.float64))
            examples += len(images)
        return {"mse": total / examples, "loss": total / examples, "examples": examples}

    def validate(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The same as `evaluate`, which costs no more."""
        return self.evaluate(model, batches)
