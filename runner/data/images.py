"""In-memory image sets and their batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from runner.data import normalization
from runner.data.augmentation import crop_and_flip
from runner.data.in_memory import InMemory, Labelled
from runner.data.resizing import fitted_size, resize
from runner.data.splits import epoch_order
from runner.data.splitting import stratified_fraction
from runner.data.transfer import to_device
from runner.errors import ParameterError
from runner.parameters import BelowOne, CountFrom0, checked, whole
from runner.seeding import derive_seed


@dataclass(frozen=True, eq=False)
class ImageSplit(Labelled):
    """Images (N, C, H, W) uint8 and labels (N,) int64."""

    images: Tensor
    labels: Tensor


class ImageData(InMemory[ImageSplit]):
    """An image set stored in memory as uint8 tensors on one device.

    Images are square. Each training image is padded with `crop` zero pixels, cropped to its original size at a random
    position, and flipped horizontally with probability 1/2 if `flip` is true. The validation split is a stratified
    fraction `validation`, in [0, 1), of the training set and is the same for every seed.
    """

    kind = "images"
    examples = "images"
    class_names: tuple[str, ...]

    @checked
    def __init__(
        self,
        train: ImageSplit,
        test: ImageSplit,
        class_names: Sequence[str],
        *,
        validation: BelowOne = 0.1,
        crop: CountFrom0,
        flip: bool,
        normalize: normalization.Kind = "channel",
    ) -> None:
        """Set aside the validation split, and compute the channel statistics of the remaining training images.

        Args:
            train, test: the splits, with images of the same shape.
            class_names: the names of the classes, in label order.
            validation, crop, flip: see `ImageData`.
            normalize: see `normalization.normalize`.

        Raises:
            ParameterError: `validation`, `crop`, `flip` or `normalize` is invalid.
            ValueError: a split is empty or has an invalid dtype, shape or label, or the images of the two splits differ
                in shape.
        """
        if not isinstance(flip, bool):
            raise ParameterError("flip", flip, "true or false")
        for name, split in (("training", train), ("test", test)):
            check_split(name, split, len(class_names))
        if train.images.shape[1:] != test.images.shape[1:]:
            raise ValueError(
                f"training images {(*train.images.shape,)} and test images {(*test.images.shape,)} differ in shape"
            )
        kept, taken = stratified_fraction(train.labels.numpy(force=True), validation, "validation")
        self.train = rows_of_pixels(train[torch.from_numpy(kept)])
        self.validation = rows_of_pixels(train[torch.from_numpy(taken)])
        self.test = rows_of_pixels(test)
        self.class_names = tuple(class_names)
        self.crop, self.flip, self.normalize = crop, flip, normalize
        self.native_size = self.image_size = train.images.shape[-1]
        self.nearest = True
        self.mean, self.std = normalization.channel_statistics(self.train.images.permute(0, 2, 3, 1))

    def fit(self, minimum: int, input_size: int | None = None) -> None:
        """Set the image size of all future batches; stored images are not changed.

        Images smaller than `minimum` pixels are enlarged by the smallest sufficient integer factor, repeating pixels.
        If `input_size` is given, images are instead resized to exactly this size (bilinear). Cropping and flipping come
        first, at the native size.
        """
        if input_size is not None:
            whole("input_size", input_size, of="pixels")
        self.nearest = input_size is None
        self.image_size = fitted_size(self.native_size, minimum) if input_size is None else input_size

    def model_arguments(self) -> dict[str, int]:
        """Return the model arguments that depend on the data: `channels`, `image_size` in pixels and `classes`."""
        channels = self.train.images.shape[1]
        return {"channels": channels, "image_size": self.image_size, "classes": len(self.class_names)}

    def train_batches(self, batch_size: int, seed: int) -> TrainBatches:
        """Return an endless sequence of augmented training batches, in an order determined by `seed`."""
        return TrainBatches(self, batch_size, seed)

    def training_batch(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels of the training images with the given indices; see `TrainBatches.batch`."""
        pixels = self.train.images.permute(0, 2, 3, 1).index_select(0, chosen)
        return self.prepare(self.augment(pixels, generator)), self.train.labels.index_select(0, chosen)

    def eval_batches(
        self, split: str, limit: int | None = None, batch_size: int = 500
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of the first `limit` images of a split (all if None), in a fixed order, not augmented.

        Yields x (n, C, S, S) float32, channels_last, and y (n,) int64. Raises a ValueError if the split is empty.
        """
        return self._in_order(self.first(split, limit), batch_size)

    def augmented_batches(self, limit: int, seed: int, batch_size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images of `eval_batches("train", limit)` with training augmentation, determined by `seed`.

        If `crop` is 0 and `flip` is false, nothing is augmented.
        """
        for number, (pixels, labels) in enumerate(self._chunks(self.train[:limit], batch_size)):
            yield self.prepare(self.augment(pixels, _generator(seed, "recalibration", number))), labels

    def _in_order(self, part: ImageSplit, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for pixels, labels in self._chunks(part, batch_size):
            yield self.prepare(pixels), labels

    @staticmethod
    def _chunks(part: ImageSplit, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield chunks of native pixels (n, S, S, C) uint8 and labels, in order."""
        for chunk in part.chunks(batch_size):
            yield chunk.images.permute(0, 2, 3, 1), chunk.labels

    def augment(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Randomly crop and flip native pixels (n, S, S, C), independently for each image."""
        if not (self.crop or self.flip):
            return pixels
        count = len(pixels)
        offsets = to_device(torch.randint(0, 2 * self.crop + 1, (2, count), generator=generator), self.device)
        flip = to_device(torch.rand(count, generator=generator) < 0.5, self.device) if self.flip else None
        return crop_and_flip(pixels, offsets[0], offsets[1], flip, self.crop)

    def prepare(self, pixels: Tensor) -> Tensor:
        """Convert native pixels (n, S, S, C) uint8 to network inputs (n, C, S', S') float32, channels_last."""
        pixels = resize(pixels, self.image_size, self.nearest)
        return normalization.normalize(self.normalize, pixels, self.mean, self.std).permute(0, 3, 1, 2)


class Examples(Protocol):
    """An in-memory data set whose training examples can be accessed by index."""

    @property
    def train(self) -> Sized:
        """The training split."""

    @property
    def device(self) -> torch.device:
        """The device of the examples."""

    def training_batch(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels of the chosen examples.

        Augmentation draws its random numbers from `generator`.
        """


class TrainBatches:
    """Training batches as a function of the step number, so that a run can be resumed at any step.

    Each epoch has its own order. An incomplete last batch is dropped, but a set smaller than a batch is one batch.
    """

    steps_per_epoch: int
    examples_per_step: int

    def __init__(self, data: Examples, batch_size: int, seed: int) -> None:
        whole("batch_size", batch_size, of="images")
        self._data, self._batch_size, self._seed = data, batch_size, seed
        self.steps_per_epoch = max(1, len(data.train) // batch_size)
        self.examples_per_step = batch_size
        self._order_of: tuple[int, Tensor] | None = None

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return x (n, …) float32, channels_last for images, and y (n,) int64, as a pure function of seed and step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self._batch_size
        data = self._data
        chosen = to_device(self._order(epoch)[start : start + self._batch_size], data.device)
        return data.training_batch(chosen, _generator(self._seed, "augmentation", step))

    def _order(self, epoch: int) -> Tensor:
        if self._order_of is None or self._order_of[0] != epoch:
            self._order_of = (epoch, epoch_order(len(self._data.train), self._seed, epoch))
        return self._order_of[1]


def _generator(seed: int, purpose: str, number: int) -> torch.Generator:
    # Always on the CPU, so that batches do not depend on the device; a step only needs a few hundred numbers.
    return torch.Generator().manual_seed(derive_seed(seed, purpose, number))


def rows_of_pixels(split: ImageSplit) -> ImageSplit:
    """Return the split with its images in channels_last memory format, which `prepare` and the models expect."""
    pixels = split.images.permute(0, 2, 3, 1).contiguous()
    return ImageSplit(pixels.permute(0, 3, 1, 2), split.labels)


def check_split(name: str, split: ImageSplit, classes: int) -> None:
    """Raise a ValueError unless a split holds at least one square image and valid dtypes, shapes and labels."""
    images, labels = split.images, split.labels
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"{name} images are {images.dtype} {(*images.shape,)}; expected uint8 (N, C, S, S)")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(f"{name} labels are {labels.dtype} {(*labels.shape,)}; expected int64 ({len(images)},)")
    if not len(labels):
        raise ValueError(f"{name} split holds no images")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"{name} labels are {int(labels.min())} to {int(labels.max())}; expected 0 to {classes - 1}")
