"""In-memory data sets of sentences and their translations, as subwords."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import torch

from runner.data.errors import DataError
from runner.data.splits import Splits
from runner.data.token_batches import PairBatch, Sentences, TokenBatches, TokenPairs, slices
from runner.data.vocabulary import Vocabulary
from runner.parameters import whole

log = logging.getLogger(__name__)

EVALUATION_TOKENS = 4096


@dataclass(frozen=True)
class Texts:
    """Non-empty lines of text and their translations."""

    sources: list[str]
    targets: list[str]


class PairData(Splits):
    """In-memory parallel text on one device, as subwords of a vocabulary that both languages share.

    The vocabulary of at most `vocabulary` ids is learned from both sides of the training text. Training pairs with more
    than `longest` subwords on a side are left out. The other splits keep all pairs, so that scores cover the whole
    split; their sources, but not their references, are truncated to `longest` subwords.
    """

    kind: ClassVar[str] = "pairs"
    examples = "pairs"

    train: TokenPairs
    validation: TokenPairs
    test: TokenPairs

    def __init__(self, train: Texts, validation: Texts, test: Texts, *, vocabulary: int, longest: int) -> None:
        """Learn the vocabulary and encode all splits.

        Raises:
            ParameterError: `vocabulary` or `longest` is invalid.
            DataError: all training pairs have more than `longest` subwords on a side.
            ConfigError: tokenizers is not installed.
        """
        whole("longest", longest, of="subwords")
        self.vocabulary = Vocabulary.of([*train.sources, *train.targets], vocabulary)
        self.longest = longest
        self.train = self._without_long(self._encoded(train))
        self.validation = self._with_cut_sources("validation", self._encoded(validation))
        self.test = self._with_cut_sources("test", self._encoded(test))
        self.device = torch.device("cpu")

    def model_arguments(self) -> dict[str, int]:
        """Return the model argument that depends on the data: `vocabulary`, the number of ids."""
        return {"vocabulary": self.vocabulary.size}

    def to(self, device: torch.device | str) -> Self:
        """Move all splits to a device, in place."""
        self.device = torch.device(device)
        for name in self.splits:
            setattr(self, name, getattr(self, name).to(device))
        return self

    def train_batches(self, batch_size: int, seed: int) -> TokenBatches:
        """Return an endless sequence of training batches, in an order determined by `seed`.

        A batch has up to `batch_size` tokens on each side; see `TokenBatches`.
        """
        return TokenBatches(self.train, batch_size, seed)

    def eval_batches(
        self, split: str, limit: int | None = None, batch_size: int = EVALUATION_TOKENS
    ) -> Iterator[PairBatch]:
        """Yield batches, with texts, of the first `limit` pairs of a split (all if None), in ascending order of length.

        A batch has at most `batch_size` tokens on each side, including padding, or is a single longer pair. Raises a
        ValueError for an unknown or empty split.
        """
        return self._by_length(self.examples_of(split), limit, batch_size)

    def augmented_batches(self, limit: int, seed: int) -> Iterator[PairBatch]:
        """Return `eval_batches("train", limit)`, since sentences are not augmented."""
        return self.eval_batches("train", limit)

    def _by_length(self, pairs: TokenPairs, limit: int | None, batch_size: int) -> Iterator[PairBatch]:
        lengths, order = pairs.lengths()[:limit].sort(stable=True)
        for part in slices(lengths, batch_size):
            batch = pairs.batch(order[part])
            # Subwords can be decoded to the exact text, so it need not be stored.
            sources, references = (
                [self.vocabulary.decode(ids) for ids in side.tolist()] for side in (batch.source, batch.target)
            )
            yield PairBatch(batch.source, batch.target, sources, references, self.vocabulary.decode)

    def _encoded(self, texts: Texts) -> TokenPairs:
        return TokenPairs(*(Sentences.encoded(side, self.vocabulary) for side in (texts.sources, texts.targets)))

    def _without_long(self, pairs: TokenPairs) -> TokenPairs:
        keep = pairs.lengths() <= self.longest + 1
        left_out = int((~keep).sum())
        if left_out == len(pairs):
            raise DataError("no training pair is that short; expected a larger number", "longest", self.longest)
        if left_out:
            what = f"{left_out} of {len(pairs)} pairs, of more than data.longest={self.longest} subwords"
            log.info("data.train: left out %s", what)
        return pairs.kept(keep)

    def _with_cut_sources(self, split: str, pairs: TokenPairs) -> TokenPairs:
        long = int((pairs.source.lengths > self.longest + 1).sum())
        if not long:
            return pairs
        log.warning("data.%s: cut %d of %d sources to data.longest=%d subwords", split, long, len(pairs), self.longest)
        return TokenPairs(pairs.source.cut(self.longest), pairs.target)
