"""Subword vocabularies: byte-level byte pair encoding (Sennrich et al., 2016), learned from the training text."""

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
SPECIAL = 3  # number of ids before those of the subwords
SMALLEST = SPECIAL + 256  # every byte is a subword, so any text can be encoded
Size = Annotated[int, rules.whole(SMALLEST)]

FORMAT = 1  # part of the cache key; increase it if the same text is to give other subwords


class Vocabulary:
    """Subwords of one or two languages, with ids from 3. The ids 0 to 2 are PAD, BEGIN and END.

    These three have no text: a line that contains one of these names is encoded like any other.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Wrap `tokenizer`, a Hugging Face Tokenizer without special tokens."""
        self._tokenizer = tokenizer

    @classmethod
    def of(cls, lines: Sequence[str], size: int) -> Vocabulary:
        """Return a vocabulary of at most `size` ids learned from the lines. It is read from the cache if possible.

        Raises:
            ParameterError: `size` is not a whole number of at least 259.
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
        """Learn a vocabulary without the cache. The result does not depend on the machine or number of threads."""
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
        """The number of ids, including PAD, BEGIN and END."""
        return SPECIAL + int(self._tokenizer.get_vocab_size())

    def sizes(self) -> list[int]:
        """Return the number of bytes in each id's subword; it is 0 for PAD, BEGIN and END."""
        # A byte-level subword is spelt with one character per byte.
        words = (self._tokenizer.id_to_token(number) for number in range(self.size - SPECIAL))
        return [0] * SPECIAL + [len(word) for word in words]

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Return the ids of each line, without BEGIN and END."""
        encodings = self._tokenizer.encode_batch_fast(lines)
        return [[number + SPECIAL for number in encoding.ids] for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids up to the first END, without PAD and BEGIN.

        Ids from `encode` give the exact text. Ids that do not form a complete character give U+FFFD.
        """
        end = ids.index(END) if END in ids else len(ids)
        return str(self._tokenizer.decode([number - SPECIAL for number in ids[:end] if number >= SPECIAL]))

    def json(self) -> str:
        """Return the vocabulary in the JSON format of the tokenizers library."""
        return str(self._tokenizer.to_str())


def content_key(lines: Sequence[str], size: int) -> str:
    """Return a hash of everything that determines a vocabulary."""
    digest = hashlib.sha256(json.dumps([FORMAT, tokenizers().__version__, size]).encode())
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def tokenizers() -> Any:
    """Import and return the optional tokenizers library."""
    return need("this data", "tokenizers", "text")
