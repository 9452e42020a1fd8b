"""Image reconstruction by an autoencoder: mean squared error."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.tasks.metrics import MSE, Metric


class Reconstruction:
    """Image reconstruction, with the mean squared error over pixels and channels as loss and metric; ignores labels.

    With `data.normalize=pixel` the error is in units of the squared maximum pixel value.
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
        """Return the shape of `output`, i.e. the shape of an input: (channels, image_size, image_size) for images."""
        return (channels, image_size, image_size) if input_shape is None else tuple(input_shape)

    def training_loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor], int]:
        """Return the mean loss of the batch, the sums of its metrics over examples, and the number of examples."""
        images, _ = batch
        loss = F.mse_loss(model(images).float(), images)
        return loss, {"mse": loss.detach() * len(images)}, len(images)

    def imitation_loss(self, model: nn.Module, batch: tuple[Tensor, Tensor], taught: Tensor) -> Tensor:
        """Return the mean squared error relative to another network's reconstructions."""
        return F.mse_loss(model(batch[0]).float(), taught.float())

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Return the mean squared error, as `mse` and as `loss`, and the number of examples over all batches."""
        total, examples = 0.0, 0
        for images, _ in batches:
            errors = (model(images).float() - images).square().flatten(1).mean(1)
            total += float(errors.sum(dtype=torch.float64))
            examples += len(images)
        return {"mse": total / examples, "loss": total / examples, "examples": examples}

    def validate(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Return the same metrics as `evaluate`."""
        return self.evaluate(model, batches)
