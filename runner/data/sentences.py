"""User-provided sentences, with the embeddings of a trained encoder as targets."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from runner.data import cache as disk
from runner.data.errors import DataError
from runner.data.parallel import hash_of, read_lines
from runner.data.splits import SPLITS, epoch_order
from runner.data.transfer import to_device
from runner.extras import need
from runner.parameters import Count, checked, whole

log = logging.getLogger(__name__)

_AT_ONCE = 64  # sentences per batch when computing embeddings and evaluating networks

Batch = tuple[Tensor, Tensor]


@dataclass
class Encoded:
    """N sentences: `ids` (N, T) int64, padded with 0, their `lengths` (N,), and `targets` (N, features)."""

    ids: Tensor
    lengths: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, chosen: Tensor) -> Batch:
        """Return the ids of the chosen sentences, padded to the longest one, and their targets."""
        longest = int(self.lengths[chosen].max())
        chosen = to_device(chosen, self.targets.device)
        return self.ids[chosen, :longest], self.targets[chosen]


class SentenceBatches:
    """Training batches as a function of the step. Each epoch has its own order and drops an incomplete last batch."""

    def __init__(self, split: Encoded, batch_size: int, seed: int) -> None:
        self.examples_per_step = min(whole("batch_size", batch_size, of="sentences"), len(split))
        self.steps_per_epoch = len(split) // self.examples_per_step
        self._split, self._seed = split, seed

    def batch(self, step: int) -> Batch:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = epoch_order(len(self._split), self._seed, epoch)
        return self._split.batch(order[place * self.examples_per_step :][: self.examples_per_step])


class SentenceEmbeddings:
    """Lines of text, with the embeddings of a trained encoder as targets for another network.

    The embeddings are computed once and stored in the user's cache.

    Args:
        train, validation, test: UTF-8 files, plain or gzipped, with one sentence per line; empty lines are left out.
        encoder: the encoder's folder, with config.json, model.safetensors and tokenizer.json.
        root: folder with the files. None means the current folder.
        longest: maximum number of tokens. Longer sentences are truncated.

    Raises:
        DataError: a file is missing or damaged, or has fewer than two non-empty lines.
        ConfigError: tokenizers or transformers is not installed.
    """

    kind: ClassVar[str] = "sentences"

    @checked
    def __init__(
        self, train: str, validation: str, test: str, encoder: str, root: str | None = None, longest: Count = 64
    ) -> None:
        names = {"train": train, "validation": validation, "test": test}
        lines = {split: _lines(split, name, root) for split, name in names.items()}
        folder = _encoder_folder(encoder)
        tokenizer = _tokenizer(folder, longest)
        self.splits: Sequence[str] = SPLITS
        self.device = torch.device("cpu")
        self._parts: dict[str, Encoded] = {}
        network: list[Any] = []  # built only if a split's embeddings are not in the cache
        for split, texts in lines.items():
            ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
            lengths = torch.tensor([len(one) for one in ids])
            padded = torch.zeros(len(ids), int(lengths.max()), dtype=torch.int64)
            for row, one in zip(padded, ids, strict=True):
                row[: len(one)] = torch.tensor(one)
            self._parts[split] = Encoded(padded, lengths, torch.empty(0))
            self._parts[split].targets = self._targets(split, folder, network)
        self.features = self._parts["train"].targets.shape[1]

    @staticmethod
    def fingerprint(train: str, validation: str, test: str, encoder: str, root: str | None = None, **_: object) -> str:
        """Return a hash of the contents of the text files and of the encoder's files."""
        named = zip(SPLITS, (train, validation, test), strict=True)
        hashes = [_hash(split, name, root) for split, name in named]
        return hashlib.sha256(repr([*hashes, *_hashes(_encoder_folder(encoder))]).encode()).hexdigest()

    def _targets(self, split: str, folder: Path, network: list[Any]) -> Tensor:
        part = self._parts[split]
        content = hashlib.sha256(part.ids.numpy().tobytes())
        key = hashlib.sha256(repr([content.hexdigest(), tuple(part.ids.shape), _hashes(folder)]).encode()).hexdigest()
        if (kept := disk.load_tensor("embeddings", key)) is not None:
            return kept
        if not network:
            network.append(_network(folder))
        log.info("embedding %d sentences of data.%s", len(part), split)
        found = torch.empty(len(part), 0)
        with torch.inference_mode():
            order = part.lengths.argsort(stable=True)
            for chosen in order.split(_AT_ONCE):
                embedded = network[0](part.ids[chosen, : int(part.lengths[chosen].max())])
                found = found if found.shape[1] else torch.empty(len(part), embedded.shape[1])
                found[chosen] = embedded
        found = found.clone()
        disk.store_tensor("embeddings", key, found)
        return found

    def to(self, device: torch.device | str) -> SentenceEmbeddings:
        """Move all splits to a device, in place."""
        self.device = torch.device(device)
        for part in self._parts.values():
            part.ids, part.targets = part.ids.to(device), part.targets.to(device)
        return self

    def sizes(self) -> dict[str, int]:
        """Return the number of sentences in each split."""
        return {split: len(part) for split, part in self._parts.items()}

    def model_arguments(self) -> dict[str, Any]:
        """Return an empty dict, because no model argument depends on the data."""
        return {}

    def train_batches(self, batch_size: int, seed: int) -> SentenceBatches:
        """Return the training batches, of `batch_size` sentences each."""
        return SentenceBatches(self._parts["train"], batch_size, seed)

    def eval_batches(self, split: str, limit: int | None = None) -> Iterator[Batch]:
        """Yield batches of the first `limit` sentences of a split, in order: ids (n, T) and targets (n, features)."""
        if split not in self.splits:
            raise ValueError(f"split {split!r}; expected one of {', '.join(self.splits)}")
        part = self._parts[split]
        for chosen in torch.arange(len(part))[:limit].split(_AT_ONCE):
            yield part.batch(chosen)

    def augmented_batches(self, limit: int, seed: int) -> Iterator[Batch]:
        """Return `eval_batches("train", limit)`, since sentences are not augmented."""
        return self.eval_batches("train", limit)


def _path(split: str, name: Any, root: str | None) -> Path:
    if not isinstance(name, str | Path) or not str(name):
        raise DataError("expected one UTF-8 file with one sentence per line, plain or gzipped", split, name)
    return Path(root or "").expanduser() / Path(name).expanduser()


def _hash(split: str, name: Any, root: str | None) -> str:
    try:
        return hash_of(_path(split, name, root))
    except DataError as error:
        raise DataError(str(error), split, name) from error


def _lines(split: str, name: Any, root: str | None) -> list[str]:
    try:
        lines = [line for line in read_lines(_path(split, name, root)) if line]
    except DataError as error:
        raise DataError(str(error), split, name) from error
    if len(lines) < 2:
        raise DataError("fewer than two non-empty lines", split, name)
    return lines


def _encoder_folder(encoder: Any) -> Path:
    folder = Path(str(encoder)).expanduser()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise DataError(f"expected a folder with {name}", "encoder", encoder)
    return folder


def _hashes(folder: Path) -> list[str]:
    return [hash_of(folder / name) for name in ("config.json", "model.safetensors", "tokenizer.json")]


def _tokenizer(folder: Path, longest: int) -> Any:
    library = need("data=sentences", "tokenizers", "text")
    try:
        tokenizer = library.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises plain Exceptions
        raise DataError(f"its tokenizer.json can't be read: {error}", "encoder", folder) from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return tokenizer


def _network(folder: Path) -> Any:
    from runner.models.foreign.sentence_encoder import SentenceEncoder  # importing transformers takes seconds

    settled = SentenceEncoder.settle({"architecture": str(folder)})
    return SentenceEncoder(settled["architecture"], settled["weights"], settled["arguments"]).build().eval()
