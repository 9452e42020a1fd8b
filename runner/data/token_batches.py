"""Sentences as subwords in flat tensors, and their batches, whose size is limited by the number of tokens."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from runner.data.splits import epoch_order
from runner.data.transfer import to_device
from runner.data.vocabulary import BEGIN, END, PAD, Vocabulary
from runner.parameters import whole
from runner.seeding import derive_seed

log = logging.getLogger(__name__)

CHUNK = 10_000  # lines encoded at once; the library's results take far more memory than their ids


@dataclass(frozen=True, eq=False)
class PairBatch:
    """A batch of N sentence pairs.

    Attributes:
        source: (N, S) int64; rows end with END and are padded with PAD.
        target: (N, T + 1) int64; rows begin with BEGIN, end with END and are padded with PAD.
        sources, references: the texts of both sides, for evaluation.
        decode: a function that converts ids to text, for evaluation.
    """

    source: Tensor
    target: Tensor
    sources: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    decode: Callable[[Sequence[int]], str] | None = None

    def __len__(self) -> int:
        return len(self.source)

    def to(self, device: torch.device | str) -> PairBatch:
        return dataclasses.replace(self, source=self.source.to(device), target=self.target.to(device))


@dataclass(frozen=True, eq=False)
class Sentences:
    """N concatenated sentences.

    Attributes:
        tokens: int32, PAD followed by every sentence with its END.
        starts: (N,) int64, the position of each sentence in `tokens`, always on the CPU.
        lengths: (N,) int64, the number of tokens in each sentence including END, always on the CPU.
    """

    tokens: Tensor
    starts: Tensor
    lengths: Tensor

    @classmethod
    def encoded(cls, lines: Sequence[str], vocabulary: Vocabulary) -> Sentences:
        tokens, lengths = [np.array([PAD], dtype=np.int32)], []
        for start in range(0, len(lines), CHUNK):
            ids = vocabulary.encode(lines[start : start + CHUNK])
            lengths += [len(sentence) + 1 for sentence in ids]
            tokens.append(np.fromiter(chain.from_iterable([*sentence, END] for sentence in ids), dtype=np.int32))
        return cls.joined(torch.from_numpy(np.concatenate(tokens)), torch.tensor(lengths, dtype=torch.int64))

    @classmethod
    def joined(cls, tokens: Tensor, lengths: Tensor) -> Sentences:
        return cls(tokens, 1 + lengths.cumsum(0) - lengths, lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def padded(self, chosen: Tensor) -> Tensor:
        """Return the chosen sentences (n, S) int64, padded to the longest one; `chosen` (n,) is on the CPU."""
        lengths = self.lengths[chosen]
        places = torch.arange(int(lengths.max()))
        # tokens[0] is PAD, so one lookup gives both tokens and padding.
        where = (self.starts[chosen, None] + places).where(places < lengths[:, None], 0)
        return self.tokens[to_device(where, self.tokens.device)].long()

    def kept(self, keep: Tensor) -> Sentences:
        """Return the sentences for which `keep` (N,) is true."""
        tokens = torch.cat([torch.ones(1, dtype=torch.bool), keep.repeat_interleave(self.lengths)])
        return self.joined(self.tokens[tokens], self.lengths[keep])

    def cut(self, longest: int) -> Sentences:
        """Return the sentences truncated to their first `longest` tokens and END."""
        place = torch.arange(1, len(self.tokens)) - self.starts.repeat_interleave(self.lengths)
        keep = (place < longest) | (self.tokens[1:] == END)
        return self.joined(
            self.tokens[torch.cat([torch.ones(1, dtype=torch.bool), keep])], self.lengths.clamp(max=longest + 1)
        )

    def to(self, device: torch.device | str) -> Sentences:
        return dataclasses.replace(self, tokens=self.tokens.to(device))


@dataclass(frozen=True, eq=False)
class TokenPairs:
    """Sentences and their translations."""

    source: Sentences
    target: Sentences

    def __len__(self) -> int:
        return len(self.source)

    def lengths(self) -> Tensor:
        """Return the number of tokens, including END, in the longer side of each pair, (N,)."""
        return torch.maximum(self.source.lengths, self.target.lengths)

    def batch(self, chosen: Tensor) -> PairBatch:
        target = self.target.padded(chosen)
        begin = target.new_full((len(target), 1), BEGIN)
        return PairBatch(self.source.padded(chosen), torch.cat([begin, target], 1))

    def kept(self, keep: Tensor) -> TokenPairs:
        return TokenPairs(self.source.kept(keep), self.target.kept(keep))

    def to(self, device: torch.device | str) -> TokenPairs:
        return TokenPairs(self.source.to(device), self.target.to(device))


class TokenBatches:
    """Training batches as a function of the step number, so that a run can be resumed at any step.

    A batch has at most `batch_size` tokens on each side, including padding and END, or is a single longer pair. Pairs
    are sorted by the length of their longer side and cut into batches at the same positions in each epoch, so that all
    epochs have the same number of steps. Each epoch shuffles pairs of the same length and the order of the batches.
    """

    steps_per_epoch: int
    examples_per_step: int  # mean number of target tokens per batch, including END but not padding

    def __init__(self, pairs: TokenPairs, batch_size: int, seed: int) -> None:
        whole("batch_size", batch_size, of="target tokens")
        self._pairs, self._seed = pairs, seed
        self._lengths = pairs.lengths()
        alone = int((self._lengths > batch_size).sum())
        if alone:
            log.warning("schedule.batch_size=%d tokens: %d longer pairs form a batch each", batch_size, alone)
        self._slices = list(slices(self._lengths.sort().values, batch_size))
        self.steps_per_epoch = len(self._slices)
        self.examples_per_step = max(1, round(int(pairs.target.lengths.sum()) / self.steps_per_epoch))
        self._epoch: tuple[int, Tensor, list[int]] | None = None

    def batch(self, step: int) -> PairBatch:
        """Return the batch of a step >= 0, without texts, as a pure function of seed and step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order, batches = self._shuffled(epoch)
        return self._pairs.batch(order[self._slices[batches[position]]])

    def _shuffled(self, epoch: int) -> tuple[Tensor, list[int]]:
        """Return the epoch's pairs, shuffled and then sorted by length, and the order of their batches."""
        if self._epoch is None or self._epoch[0] != epoch:
            pairs = epoch_order(len(self._pairs), self._seed, epoch)
            order = pairs[self._lengths[pairs].argsort(stable=True)]
            batches = torch.randperm(self.steps_per_epoch, generator=self._generator("batches", epoch))
            self._epoch = (epoch, order, batches.tolist())
        return self._epoch[1:]

    def _generator(self, purpose: str, number: int) -> torch.Generator:
        # Always on the CPU, so that batches do not depend on the device.
        return torch.Generator().manual_seed(derive_seed(self._seed, purpose, number))


def slices(lengths: Tensor, batch_size: int) -> Iterator[slice]:
    """Yield consecutive slices of ascending sentence lengths (N,).

    In each slice, the number of sentences times the largest length is at most `batch_size`, unless the
    slice has only one sentence.
    """
    start = 0
    while start < len(lengths):
        window = lengths[start : start + max(1, batch_size // int(lengths[start]))]
        fits = int((window * torch.arange(1, len(window) + 1) <= batch_size).sum())
        yield slice(start, start + max(1, fits))
        start += max(1, fits)
