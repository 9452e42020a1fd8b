"""German number words and their English translations, a translation data set that needs no download."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from runner.data import cache
from runner.data.pairs import PairData, Texts
from runner.data.vocabulary import Size
from runner.extras import need
from runner.parameters import checked

SIZES = {"train": 20_000, "validation": 500, "test": 1_000}
LONGEST = 100  # subwords; all number words are far shorter

FORMAT = 1  # part of the cache key; increase it if other pairs are to be drawn

# Names used by num2words.
CARDINAL, ORDINAL, YEAR = "cardinal", "ordinal", "year"


class Numbers(PairData):
    """21,500 numbers in German and English: "dreiundzwanzigtausendfünf" is "twenty-three thousand and five".

    They are cardinals below 1,000,000, ordinals below 100,000 and years from 1100 to 1999, including all cardinals and
    ordinals below 100. The pairs are the same for every seed, and no text is in two splits: 20,000 pairs are for
    training, 500 for validation and 1,000 for testing.
    """

    @checked
    def __init__(self, vocabulary: Size = 400) -> None:
        """Create the pairs, or load them from the cache, and learn a vocabulary of at most `vocabulary` ids.

        Raises:
            ConfigError: tokenizers or num2words is not installed.
            ParameterError: `vocabulary` is invalid.
        """
        pairs = iter(number_pairs())
        parts = {}
        for split, size in SIZES.items():
            chosen = [next(pairs) for _ in range(size)]
            parts[split] = Texts([german for german, _ in chosen], [english for _, english in chosen])
        super().__init__(**parts, vocabulary=vocabulary, longest=LONGEST)


def number_pairs() -> list[tuple[str, str]]:
    """Return all (German, English) pairs, from the cache if possible. No text occurs twice."""
    need("data=numbers", "num2words", "text")
    key = hashlib.sha256(repr((FORMAT, metadata.version("num2words"))).encode()).hexdigest()
    kept = cache.load("numbers", key)
    if kept is not None:
        return [(german, english) for german, english in json.loads(kept)]
    pairs = drawn_pairs(sum(SIZES.values()))
    cache.store("numbers", key, json.dumps(pairs))
    return pairs


def drawn_pairs(count: int) -> list[tuple[str, str]]:
    """Return `count` pairs of number words, in a pseudorandom order given by the hash of the German text."""
    german, english = converter("de"), converter("en")
    english_of: dict[str, str] = {}
    for kind, number in drawn_numbers():
        english_of.setdefault(in_words(german, kind, number), in_words(english, kind, number))
        if len(english_of) == count:
            break
    return sorted(english_of.items(), key=lambda pair: hashlib.sha256(pair[0].encode()).digest())


def converter(language: str) -> Any:
    """Return num2words' converter for a language, limited to numbers up to a million."""
    fast = copy.copy(need("data=numbers", "num2words", "text").CONVERTER_CLASSES[language])
    # It tries every number that has a name, from 10**600 downwards. Without the large ones it is 14 times as fast.
    fast.cards = {number: name for number, name in fast.cards.items() if number <= 1_000_000}
    return fast


def in_words(converter: Any, kind: str, number: int) -> str:
    return str(getattr(converter, f"to_{kind}")(number))


def drawn_numbers() -> Iterator[tuple[str, int]]:
    """Yield random tuples (kind, number) endlessly and without repetition.

    Each cardinal or ordinal is drawn below a limit of 10, 100, 1,000 …, all of which are equally likely.
    """
    source = random.Random(0)

    def below(limit: int) -> int:
        # Only random() is guaranteed to give the same numbers in all versions of Python.
        return int(source.random() * limit)

    seen: set[tuple[str, int]] = set()
    while True:
        draw = source.random()
        if draw < 0.05:
            drawn = YEAR, 1100 + below(900)
        elif draw < 0.3:
            drawn = ORDINAL, 1 + below(10 ** (1 + below(5)) - 1)
        else:
            drawn = CARDINAL, below(10 ** (1 + below(6)))
        if drawn not in seen:
            seen.add(drawn)
            yield drawn
