"""Inputs and labels from the user's NumPy files."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runner import rules
from runner.data.errors import DataError, one_line
from runner.data.images import TrainBatches
from runner.data.in_memory import InMemory, Labelled
from runner.data.splitting import stratified_fraction
from runner.errors import ParameterError
from runner.parameters import checked

_ROWS = 4096  # checked at once, to avoid a copy of the whole array
_SMALLEST = 1e-8  # smallest standard deviation used as a divisor


@dataclass(frozen=True, eq=False)
class ArraySplit(Labelled):
    """The arrays of a split: inputs (N, …) float32 or uint8, and labels (N,) int64."""

    inputs: Tensor
    labels: Tensor


class Arrays(InMemory[ArraySplit]):
    """An in-memory data set of inputs of any shape with integer labels, from `.npz` files, without augmentation.

    Args:
        train: file with the training examples; relative names are looked up in `root`.
        validation: a file, or a fraction in [0, 1) of the training examples.
        test: a file, or a fraction in (0, 1) of the examples in `train`, which are then not used for training.
            Fractions are stratified and contain the same examples for every seed.
        root: folder with the files. None means the current folder.
        inputs, labels: names of the arrays: (N, …) float32 or uint8, and (N,) of any integer type.
        classes: number of classes. None means one more than the largest label in all splits, and at least 2.
        normalize: "none"; "example" normalises each example by its own mean and standard deviation; "feature"
            normalises each entry by its mean and standard deviation over the training examples. Inputs of uint8 are
            divided by 255 first.

    Raises:
        DataError: a file is missing or damaged, or does not contain such arrays. The message names the parameter and
            the file.
        ParameterError: another parameter is invalid.
    """

    kind = "images"  # inputs with labels, which tasks and models for images accept

    @checked
    def __init__(
        self,
        train: Annotated[str, rules.is_word],
        validation: Annotated[str | float, rules.file_or(rules.between(0, 1, open_end=True))] = 0.1,
        test: Annotated[str | float, rules.file_or(rules.inside_unit)] = 0.2,
        root: str | Path | None = None,
        inputs: Annotated[str, rules.is_word] = "inputs",
        labels: Annotated[str, rules.is_word] = "labels",
        classes: Annotated[int | None, rules.either(None, rules.whole(2))] = None,
        normalize: Annotated[str, rules.choice("none", "example", "feature")] = "none",
    ) -> None:
        self.normalize = normalize
        found = {
            split: file.read(inputs, labels, classes) for split, file in _files(root, train, validation, test).items()
        }
        self.train = found["train"]
        for split, other in found.items():
            _check_alike(split, {"validation": validation, "test": test}.get(split), self.train, other)
        if "test" not in found:
            self.train, found["test"] = _parted(self.train, test, "test")
        if "validation" not in found:
            self.train, found["validation"] = _parted(self.train, validation, "validation")
        self.validation, self.test = found["validation"], found["test"]
        largest = max(int(getattr(self, split).labels.max()) for split in self.splits)
        self.classes = max(2, largest + 1) if classes is None else classes
        self.class_names = tuple(str(label) for label in range(self.classes))
        self.mean, self.std = self._statistics()

    @staticmethod
    def fingerprint(
        train: str,
        validation: str | float = 0.1,
        test: str | float = 0.2,
        root: str | Path | None = None,
        inputs: str = "inputs",
        labels: str = "labels",
        **_: object,
    ) -> str:
        """Return a hash of the arrays in all files, independent of file names and compression."""
        files = _files(root, train, validation, test)
        hashes = {split: file.hash(inputs, labels) for split, file in files.items()}
        return hashlib.sha256(repr(hashes).encode()).hexdigest()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example's inputs."""
        return tuple(self.train.inputs.shape[1:])

    def fit(self, minimum: int, input_size: int | None = None) -> None:
        """Check that a model accepts the inputs, which are never resized.

        Args:
            minimum: smallest image size that the model accepts, in pixels.
            input_size: the requested input size; must be None.

        Raises:
            ParameterError: an input size is requested.
            ValueError: the inputs are too small for the model.
        """
        if input_size is not None:
            raise ParameterError("input_size", input_size, "null: arrays are not resized")
        size = self.model_arguments().get("image_size")
        if size is not None and size < minimum:
            raise ValueError(f"the model reads images of {minimum} px or more; the inputs are {self.input_shape}")

    def model_arguments(self) -> dict[str, Any]:
        """Return the model arguments that depend on the data: `classes` and `input_shape`.

        For square images (C, S, S), also `channels` and `image_size`.
        """
        shape = self.input_shape
        about: dict[str, Any] = {"classes": self.classes, "input_shape": list(shape)}
        if len(shape) == 3 and shape[1] == shape[2]:
            about |= {"channels": shape[0], "image_size": shape[1]}
        return about

    def train_batches(self, batch_size: int, seed: int) -> TrainBatches:
        """Return an endless sequence of training batches, in an order determined by `seed`."""
        return TrainBatches(self, batch_size, seed)

    def training_batch(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return x (n, …) float32 and y (n,) int64 for the training examples with the given indices."""
        return self.prepare(self.train.inputs.index_select(0, chosen)), self.train.labels.index_select(0, chosen)

    def eval_batches(
        self, split: str, limit: int | None = None, batch_size: int = 500
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of the first `limit` examples of a split (all if None), in a fixed order.

        Yields x (n, …) float32 and y (n,) int64. Raises a ValueError if the split is empty.
        """
        return self._in_order(self.first(split, limit), batch_size)

    def augmented_batches(self, limit: int, seed: int, batch_size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """Return `eval_batches("train", limit)`, since arrays are not augmented."""
        return self.eval_batches("train", limit, batch_size)

    def _in_order(self, part: ArraySplit, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for chunk in part.chunks(batch_size):
            yield self.prepare(chunk.inputs), chunk.labels

    def prepare(self, inputs: Tensor) -> Tensor:
        """Convert stored inputs (n, …) to a network's inputs: float32, normalised."""
        x = inputs / 255 if inputs.dtype == torch.uint8 else inputs
        if self.normalize == "feature":
            return (x - self.mean) / self.std
        if self.normalize == "example":
            flat = x.flatten(1)
            std, mean = torch.std_mean(flat, 1, correction=0, keepdim=True)
            return ((flat - mean) / std.clamp_min(_SMALLEST)).view(x.shape)
        return x

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation of each entry over the training examples, or 0 and 1 if not needed."""
        if self.normalize != "feature":
            return torch.zeros(()), torch.ones(())
        x = self.train.inputs.double() / (255 if self.train.inputs.dtype == torch.uint8 else 1)
        std, mean = torch.std_mean(x, 0, correction=0)
        # An entry that is constant over the training examples becomes 0 there, and remains small elsewhere.
        return mean.float(), torch.where(std < _SMALLEST, 1.0, std).float()


@dataclass(frozen=True)
class _File:
    """A file and the constructor parameter that names it."""

    parameter: str
    name: str
    path: Path

    def read(self, inputs: str, labels: str, classes: int | None) -> ArraySplit:
        """Read the split. Raises a DataError unless the inputs are finite and the labels valid."""
        x, y = self._arrays(inputs, labels)
        for start in range(0, len(x) if x.dtype == np.float32 else 0, _ROWS):
            finite = np.isfinite(x[start : start + _ROWS].reshape(len(x[start : start + _ROWS]), -1)).all(1)
            if not finite.all():
                raise self._error(f"{inputs}[{start + int(np.argmin(finite))}] holds NaN or an infinite number")
        high = np.iinfo(np.int32).max if classes is None else classes
        outside = np.flatnonzero((y < 0) | (y >= high))
        if len(outside):
            allowed = f"0 to {classes - 1}, for {classes} classes" if classes else "0 or above"
            raise self._error(f"{labels}[{outside[0]}] is {y[outside[0]]}; expected {allowed}")
        return ArraySplit(torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)))

    def hash(self, inputs: str, labels: str) -> str:
        """Return a hash of both arrays."""
        digest = hashlib.sha256()
        x, y = self._arrays(inputs, labels)
        for array in (x, y.astype(np.int64)):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def _arrays(self, inputs: str, labels: str) -> tuple[NDArray[Any], NDArray[Any]]:
        x, y = self._load(inputs, labels)
        if x.dtype not in (np.float32, np.uint8) or x.ndim < 2 or not x.size:
            raise self._error(f"{inputs} is {x.dtype} {x.shape}; expected float32 or uint8 (N, …)")
        if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
            raise self._error(f"{labels} is {y.dtype} {y.shape}; expected integers ({len(x)},)")
        return np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("=")), y

    def _load(self, inputs: str, labels: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Load the two arrays without checking them. Pickled objects are never loaded, as they can execute code."""
        try:
            loaded = np.load(self.path, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                raise self._error("a single array; expected an .npz file, numpy.savez(FILE, inputs=…, labels=…)")
            with loaded as file:
                for option, name in (("inputs", inputs), ("labels", labels)):
                    if name not in file.files:
                        held = ", ".join(file.files[:5]) or "nothing"
                        raise self._error(f"it has no array {name!r}, only {held}", f"choose one with {option}=…")
                return file[inputs], file[labels]
        except FileNotFoundError:
            raise self._error(f"{self.path}: no such file") from None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise self._error(f"can't be read as an .npz file of plain arrays: {one_line(error)[:100]}") from error

    def _error(self, problem: str, remedy: str | None = None) -> DataError:
        return DataError(problem, self.parameter, self.name, remedy)


def _files(root: str | Path | None, train: str, validation: str | float, test: str | float) -> dict[str, _File]:
    """Return the file of each split that has one. Raises a DataError if `root` is not a folder."""
    folder = Path() if root is None else Path(str(root)).expanduser()
    if not folder.is_dir():
        raise DataError("no such folder", "root", root)
    named = {"train": train, "validation": validation, "test": test}
    return {
        split: _File(split, name, folder / Path(name).expanduser())
        for split, name in named.items()
        if isinstance(name, str)
    }


def _check_alike(split: str, name: Any, train: ArraySplit, other: ArraySplit) -> None:
    """Raise a DataError unless a split's inputs have the same shape and dtype as the training inputs."""
    ours, theirs = ((part.inputs.dtype, (*part.inputs.shape[1:],)) for part in (train, other))
    if ours != theirs:
        shown = [f"{str(dtype).removeprefix('torch.')} {shape}" for dtype, shape in (theirs, ours)]
        raise DataError(f"an example is {shown[0]}, but one of data.train is {shown[1]}", split, name)


def _parted(part: ArraySplit, fraction: Any, parameter: str) -> tuple[ArraySplit, ArraySplit]:
    """Split into a stratified fraction and the rest, and return (rest, fraction).

    Raises a ParameterError if the rest is empty.
    """
    kept, taken = stratified_fraction(part.labels.numpy(), fraction, parameter)
    return part[torch.from_numpy(kept)], part[torch.from_numpy(taken)]
