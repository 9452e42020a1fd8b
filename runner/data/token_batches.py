"""Sentences as subwords in flat tensors, and batches of them by number of tokens."""

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

CHUNK = 10_000  # lines that are encoded at once: the library's results take far more memory than their ids


@dataclass(frozen=True, eq=False)
class PairBatch:
    """N pairs of sentences.

    `source` (N, S) int64, each row ending with END, and `target` (N, T + 1) int64, each row from BEGIN to END; PAD
    behind it. For evaluation also the text of both, and what turns ids into text.
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
    """N sentences, one behind the other: `tokens` int32, PAD and then every sentence with its END.

    `starts` (N,) is where each begins in `tokens`, `lengths` (N,) its number of tokens, END included; both int64, on
    the CPU wherever the tokens are.
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
        """The chosen sentences (n, S) int64, padded to the longest of them; `chosen` (n,) is on the CPU."""
        lengths = self.lengths[chosen]
        places = torch.arange(int(lengths.max()))
        # Token 0 is PAD, so one lookup gives tokens and padding.
        where = (self.starts[chosen, None] + places).where(places < lengths[:, None], 0)
        return self.tokens[to_device(where, self.tokens.device)].long()

    def kept(self, keep: Tensor) -> Sentences:
        """Those where `keep` (N,) is true."""
        tokens = torch.cat([torch.ones(1, dtype=torch.bool), keep.repeat_interleave(self.lengths)])
        return self.joined(self.tokens[tokens], self.lengths[keep])

    def cut(self, longest: int) -> Sentences:
        """Each with its first `longest` tokens and END."""
        place = torch.arange(1, len(self.tokens)) - self.starts.repeat_interleave(self.lengths)
        keep = (place < longest) | (self.tokens[1:] == END)
        return self.joined(
            self.tokens[torch.cat([torch.ones(1, dtype=torch.bool), keep])], self.lengths.clamp(max=longest + 1)
        )

    def to(self, device: torch.device | str) -> Sentences:
        return dataclasses.replace(self, tokens=self.tokens.to(device))


@dataclass(frozen=True, eq=False)
class TokenPairs:
    """Sentences and their translations, pair by pair."""

    source: Sentences
    target: Sentences

    def __len__(self) -> int:
        return len(self.source)

    def lengths(self) -> Tensor:
        """(N,) tokens of the longer side of each pair, END included."""
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
    """Training batches as a function of the step number alone, so that a run can go on at any step.

    A batch is of `batch_size` tokens on each side at most, padding and END included, or a single longer pair. Pairs
    are sorted by the length of their longer side and cut into batches at the same places in each epoch, so that every
    epoch has as many steps. Which pairs of a length come together and the order of the batches are each epoch's own.
    """

    steps_per_epoch: int
    examples_per_step: int  # mean target tokens of a batch, END included, padding not

    def __init__(self, pairs: TokenPairs, batch_size: int, seed: int) -> None:
        whole("batch_size", batch_size, of="target tokens")
        self._pairs, self._seed = pairs, seed
        self._lengths = pairs.lengths()
        alone = int((self._lengths > batch_size).sum())
        if alone:
            log.warning("schedule.batch_size=%d tokens: %d longer pairs are a batch each", batch_size, alone)
        self._slices = list(slices(self._lengths.sort().values, batch_size))
        self.steps_per_epoch = len(self._slices)
        self.examples_per_step = max(1, round(int(pairs.target.lengths.sum()) / self.steps_per_epoch))
        self._epoch: tuple[int, Tensor, list[int]] | None = None

    def batch(self, step: int) -> PairBatch:
        """The batch of a step >= 0, without texts: a pure function of (seed, step)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order, batches = self._shuffled(epoch)
        return self._pairs.batch(order[self._slices[batches[position]]])

    def _shuffled(self, epoch: int) -> tuple[Tensor, list[int]]:
        """The epoch's pairs, shuffled and then sorted by length, and the order of their batches."""
        if self._epoch is None or self._epoch[0] != epoch:
            pairs = epoch_order(len(self._pairs), self._seed, epoch)
            order = pairs[self._lengths[pairs].argsort(stable=True)]
            batches = torch.randperm(self.steps_per_epoch, generator=self._generator("batches", epoch))
            self._epoch = (epoch, order, batches.tolist())
        return self._epoch[1:]

    def _generator(self, purpose: str, number: int) -> torch.Generator:
        # On the CPU whatever the device: every device sees the same batches.
        return torch.Generator().manual_seed(derive_seed(self._seed, purpose, number))


def slices(lengths: Tensor, batch_size: int) -> Iterator[slice]:
    """Cuts ascending lengths (N,) into runs whose number times longest is `batch_size` at most, or of one."""
    start = 0
    while start < len(lengths):
        window = lengths[start : start + max(1, batch_size // int(lengths[start]))]
        fits = int((window * torch.arange(1, len(window) + 1) <= batch_size).sum())
        yield slice(start, start + max(1, fits))
        start += max(1, fits)
