"""Subwords: byte-level byte pair encoding (Sennrich et al., 2016), learned from the training text."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Annotated, Any

from runner import rules
from runner.data import cache as disk
from runner.extras import need
from runner.parameters import whole

log = logging.getLogger(__name__)

PAD, BEGIN, END = 0, 1, 2
SPECIAL = 3  # so many ids come before those of the subwords
SMALLEST = SPECIAL + 256  # every byte is a subword, so no text is unknown
Size = Annotated[int, rules.whole(SMALLEST)]

FORMAT = 1  # part of the cache's key: to be raised when the same text is to give other subwords


class Vocabulary:
    """Subwords of one language or two, by id from 3 on; 0 to 2 are PAD, BEGIN and END.

    These three are no text: a line that spells out such a name is encoded like any other.
    """

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a Hugging Face Tokenizer without special tokens."""
        self._tokenizer = tokenizer

    @classmethod
    def of(cls, lines: Sequence[str], size: int) -> Vocabulary:
        """The vocabulary of at most `size` ids that these lines give, out of the cache if it is there.

        Raises:
            ParameterError: `size` is no whole number of at least 259.
            ConfigError: tokenizers is not installed.
        """
        whole("vocabulary", size, SMALLEST, "subwords")
        key = content_key(lines, size)
        kept = disk.load("vocabulary", key)
        if kept is not None:
            return cls(tokenizers().Tokenizer.from_str(kept))
        learned = cls.learned(lines, size)
        disk.store("vocabulary", key, learned.json())
        return learned

    @classmethod
    def learned(cls, lines: Sequence[str], size: int) -> Vocabulary:
        """As `of`, without the cache. The same on every machine, with any number of threads."""
        log.info("learning a vocabulary of %d subwords from %d lines", size, len(lines))
        library = tokenizers()
        byte_level = library.pre_tokenizers.ByteLevel
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size - SPECIAL, min_frequency=2, show_progress=False, initial_alphabet=byte_level.alphabet()
        )
        tokenizer.train_from_iterator(lines, trainer, length=len(lines))
        return cls(tokenizer)

    @property
    def size(self) -> int:
        """Number of ids, PAD, BEGIN and END among them."""
        return SPECIAL + int(self._tokenizer.get_vocab_size())

    def sizes(self) -> list[int]:
        """Bytes of each id's subword; 0 of PAD, BEGIN and END."""
        # A byte-level subword is spelt with one character a byte.
        words = (self._tokenizer.id_to_token(number) for number in range(self.size - SPECIAL))
        return [0] * SPECIAL + [len(word) for word in words]

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each line, without BEGIN and END."""
        encodings = self._tokenizer.encode_batch_fast(lines)
        return [[number + SPECIAL for number in encoding.ids] for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids up to the first END; PAD and BEGIN are left out.

        What `encode` gave comes back exactly; ids that make no whole character come back as U+FFFD.
        """
        end = ids.index(END) if END in ids else len(ids)
        return str(self._tokenizer.decode([number - SPECIAL for number in ids[:end] if number >= SPECIAL]))

    def json(self) -> str:
        """All of it, as the tokenizers library writes and reads it."""
        return str(self._tokenizer.to_str())


def content_key(lines: Sequence[str], size: int) -> str:
    """A hash of all that a vocabulary follows from."""
    digest = hashlib.sha256(json.dumps([FORMAT, tokenizers().__version__, size]).encode())
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def tokenizers() -> Any:
    """The library, imported when it is needed: an optional dependency."""
    return need("this data", "tokenizers", "text")
