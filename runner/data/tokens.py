"""Convert text to token ids for characters, bytes, subwords or the tokens of a stored tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runner.data.errors import DataError
from runner.data.token_batches import CHUNK
from runner.data.vocabulary import Vocabulary, tokenizers

KINDS = ("characters", "bytes", "subwords")
TOKENIZER = "tokenizer.json"
_PIECE = 2**20  # minimum number of characters encoded at once
_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Tokens(Protocol):
    """A conversion between text and token ids.

    Attributes:
        sizes: (ids,) int64, the length of each token in UTF-8 bytes.
        unknown: the id of unknown tokens, or None if there is none.
    """

    sizes: Tensor
    unknown: int | None

    def encode(self, text: str) -> Tensor:
        """Return the ids of a text, (n,) int32."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids."""


def tokenizer_file(folder: str) -> Path:
    """Return the path of a folder's tokenizer.json."""
    return Path(folder).expanduser() / TOKENIZER


def is_kind(value: Any) -> str | None:
    """Rule for a kind of tokens: one of KINDS, or a folder with a tokenizer.json; see `runner.rules`."""
    known = isinstance(value, str) and (value in KINDS or tokenizer_file(value).is_file())
    return None if known else f"one of {', '.join(KINDS)} or a folder with {TOKENIZER}"


def tokens_of(kind: str, text: str, vocabulary: int) -> Tokens:
    """Return the conversion between text and tokens of the given kind.

    Args:
        kind: one of KINDS, or a folder with a tokenizer.json.
        text: the training text, which determines the known characters or the subwords.
        vocabulary: maximum number of subwords.

    Raises:
        ParameterError, ConfigError: subwords cannot be learned; see `Vocabulary.of`.
        DataError: the tokenizer cannot be used; see `Stored`.
    """
    if kind not in KINDS:
        return Stored(tokenizer_file(kind))
    if kind == "characters":
        return Characters(text)
    return Bytes() if kind == "bytes" else Subwords(text, vocabulary)


class Characters:
    """The characters of a training text, with ids from 1.

    The id 0 stands for any other character. It is decoded as U+FFFD and counts as one byte.
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
    """The 256 byte values, for UTF-8 text."""

    unknown: int | None = None

    def __init__(self) -> None:
        self.sizes = torch.ones(256, dtype=torch.int64)

    def encode(self, text: str) -> Tensor:
        return torch.from_numpy(np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32))

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")


class Subwords:
    """Byte-level byte pair encoding; see `Vocabulary`. No subword spans several lines."""

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


class Stored:
    """The tokens of a tokenizer.json written by tokenizers or transformers. No special tokens are added to a text.

    The tokenizer must be byte-level, like GPT-2's, or use "▁" for a space, like Llama's, so that the number of bytes in
    a token is known.

    Raises:
        DataError: the file cannot be read or contains another kind of tokenizer.
        ConfigError: tokenizers is not installed.
    """

    def __init__(self, file: Path) -> None:
        library = tokenizers()
        try:
            self._tokenizer = library.Tokenizer.from_file(str(file))
            description = json.loads(file.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises plain Exceptions
            raise DataError(f"{file} can't be read ({str(error)[:100]})", "tokens", str(file.parent)) from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        words: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        size_of = _size_of(_parts(description))
        if size_of is None:
            problem = f"{file}: can't tell the bytes of its tokens; expected byte-level tokens or ▁ for spaces"
            raise DataError(problem, "tokens", str(file.parent))
        added = {one["content"] for one in description.get("added_tokens", ())}
        self.sizes = torch.zeros(max(words.values()) + 1, dtype=torch.int64)
        for word, number in words.items():
            self.sizes[number] = len(word.encode()) if word in added else size_of(word)
        self.unknown: int | None = words.get(str(description["model"].get("unk_token")))

    def encode(self, text: str) -> Tensor:
        parts = [np.zeros(0, dtype=np.int32)]
        for piece in _pieces(text):
            parts.append(np.array(self._tokenizer.encode(piece, add_special_tokens=False).ids, dtype=np.int32))
        return torch.from_numpy(np.concatenate(parts))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every dict with a "type" in a tokenizer's description, at any depth except inside the vocabulary."""
    if isinstance(value, dict):
        if "type" in value:
            yield value
        for key, one in value.items():
            if key != "vocab":
                yield from _parts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _parts(one)


def _size_of(parts: Iterator[dict[str, Any]]) -> Any:
    """Return a function that maps a token's spelling to its number of bytes, or None if that is unknown."""
    for part in parts:
        if part["type"] == "ByteLevel":
            return len  # one character per byte
        if part["type"] == "Metaspace" or "▁" in str(part.get("content", "")) + str(part.get("pattern", "")):
            return lambda word: 1 if _BYTE.fullmatch(word) else len(word.replace("▁", " ").encode())
    return None


def _pieces(text: str) -> Iterator[str]:
    """Yield pieces of a text that end at line breaks, to limit how much is encoded at once."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _PIECE) + 1 or len(text)
        yield text[start:end]
        start = end


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
