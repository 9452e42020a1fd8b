"""Text as numbers: characters, bytes or subwords."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runner.data.token_batches import CHUNK
from runner.data.vocabulary import Vocabulary

KINDS = ("characters", "bytes", "subwords")


class Tokens(Protocol):
    """The tokens of a text.

    Attributes:
        sizes: (ids,) int64, bytes in UTF-8 of each token.
        unknown: the id of what the training text lacks; None where there is no such thing.
    """

    sizes: Tensor
    unknown: int | None

    def encode(self, text: str) -> Tensor:
        """The ids of a text, (n,) int32."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""


def tokens_of(kind: str, text: str, vocabulary: int) -> Tokens:
    """The tokens that a training text gives.

    Args:
        kind: one of KINDS.
        vocabulary: subwords at most.

    Raises:
        ParameterError, ConfigError: of subwords, see `Vocabulary.of`.
    """
    if kind == "characters":
        return Characters(text)
    return Bytes() if kind == "bytes" else Subwords(text, vocabulary)


class Characters:
    """The characters of a training text, by id from 1 on; 0 is any other character, shown as U+FFFD.

    Another character counts as one byte.
    """

    unknown: int | None = 0

    def __init__(self, text: str) -> None:
        self._alphabet = np.unique(_codes(text))
        self._characters = "\ufffd" + "".join(map(chr, self._alphabet))
        self.sizes = torch.tensor([1, *(len(character.encode()) for character in self._characters[1:])])

    def encode(self, text: str) -> Tensor:
        codes = _codes(text)
        places = np.searchsorted(self._alphabet, codes).clip(max=len(self._alphabet) - 1)
        ids = np.where(self._alphabet[places] == codes, places + 1, 0)
        return torch.from_numpy(ids.astype(np.int32))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._characters[number] for number in ids)


class Bytes:
    """The 256 bytes of UTF-8."""

    unknown: int | None = None

    def __init__(self) -> None:
        self.sizes = torch.ones(256, dtype=torch.int64)

    def encode(self, text: str) -> Tensor:
        return torch.from_numpy(np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32))

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")


class Subwords:
    """Byte-level byte pair encoding, see `Vocabulary`; no subword goes beyond a line."""

    unknown: int | None = None

    def __init__(self, text: str, size: int) -> None:
        self._vocabulary = Vocabulary.of(text.splitlines(keepends=True), size)
        self.sizes = torch.tensor(self._vocabulary.sizes())

    def encode(self, text: str) -> Tensor:
        lines = text.splitlines(keepends=True)
        parts = [np.zeros(0, dtype=np.int32)]
        for start in range(0, len(lines), CHUNK):
            ids = self._vocabulary.encode(lines[start : start + CHUNK])
            parts += [np.array(line, dtype=np.int32) for line in ids]
        return torch.from_numpy(np.concatenate(parts))

    def decode(self, ids: Sequence[int]) -> str:
        return self._vocabulary.decode(ids)


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
