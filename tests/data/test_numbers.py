import hashlib
import importlib
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from runner.data import numbers
from runner.data.numbers import Numbers, drawn_numbers, drawn_pairs
from runner.errors import ConfigError


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that contains the real pairs."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        numbers.number_pairs()
    return folder


@pytest.fixture(scope="module")
def data(cached: Path) -> Iterator[Numbers]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cached))
        yield Numbers()


def texts(data: Numbers, split: str) -> tuple[list[str], list[str]]:
    batches = list(data.eval_batches(split))
    return [text for batch in batches for text in batch.sources], [t for batch in batches for t in batch.references]


def test_sizes_and_splits_without_a_common_text(data: Numbers) -> None:
    assert data.sizes() == {"train": 20_000, "validation": 500, "test": 1_000}
    sources, references = zip(*(texts(data, split) for split in data.splits), strict=True)
    assert len(set().union(*sources)) == len(set().union(*references)) == 21_500


def test_german_to_english_of_every_kind(data: Numbers) -> None:
    english = dict(zip(*map(list, texts(data, "train")), strict=True))
    for split in ("validation", "test"):
        english |= dict(zip(*texts(data, split), strict=True))
    assert english["fünfhundertdreiundzwanzig"] == "five hundred and twenty-three"
    assert english["einundzwanzigste"] == "twenty-first"
    assert english["neunzehnhundertfünfundachtzig"] == "nineteen eighty-five"
    assert english["null"] == "zero"


def test_every_split_has_short_and_long_ones(data: Numbers) -> None:
    for split in data.splits:
        lengths = sorted(len(source) for source in texts(data, split)[0])
        short, long = sum(length <= 25 for length in lengths), sum(length >= 45 for length in lengths)
        assert short >= 0.05 * len(lengths) and long >= 0.1 * len(lengths)


def test_lines_are_short_in_subwords(data: Numbers) -> None:
    assert int(data.train.lengths().max()) <= 20
    assert data.model_arguments() == {"vocabulary": 400}


def test_the_drawn_numbers_never_change() -> None:
    # Different numbers would make all earlier results with these data incomparable.
    known = [("cardinal", 42_057), ("ordinal", 405), ("cardinal", 47), ("cardinal", 504_686), ("ordinal", 6_184)]
    assert list(islice(drawn_numbers(), 5)) == known


def test_the_pairs_never_change(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cached))
    pairs = numbers.number_pairs()
    assert pairs[2] == ("vierhundertzwölf", "four hundred and twelve")
    # For num2words 0.5.14; a version that spells a number differently gives another hash.
    text = "\n".join("\t".join(pair) for pair in pairs)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "2ef4a878ffd2343d"


def test_the_fast_converters_say_what_num2words_says() -> None:
    num2words = importlib.import_module("num2words").num2words
    for language in ("de", "en"):
        fast = numbers.converter(language)
        for kind, number in [*islice(drawn_numbers(), 300), ("cardinal", 1_000_000), ("cardinal", 999_999)]:
            assert numbers.in_words(fast, kind, number) == num2words(number, lang=language, to=kind)
    assert num2words(10**9, lang="en") == "one billion"


def test_numbers_are_in_range_and_come_once() -> None:
    drawn = list(islice(drawn_numbers(), 5000))
    assert len(set(drawn)) == 5000
    ranges = {"cardinal": range(1_000_000), "ordinal": range(1, 100_000), "year": range(1100, 2000)}
    assert all(number in ranges[kind] for kind, number in drawn)
    assert {kind for kind, _ in drawn} == set(ranges)


def test_a_german_text_that_two_numbers_share_keeps_its_first_translation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "converter", str)
    monkeypatch.setattr(numbers, "in_words", lambda to, kind, n: f"de {n // 2}" if to == "de" else f"{kind} {n}")
    monkeypatch.setattr(numbers, "drawn_numbers", lambda: iter([("year", 2), ("cardinal", 3), ("cardinal", 4)]))
    assert dict(drawn_pairs(2)) == {"de 1": "year 2", "de 2": "cardinal 4"}


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small set, with an empty folder as its cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(numbers, "SIZES", {"train": 60, "validation": 10, "test": 20})
    return tmp_path / "run" / "numbers"


def test_the_second_time_they_come_from_the_cache(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = numbers.number_pairs()

    def fail(count: int) -> Any:
        raise AssertionError("made again")

    monkeypatch.setattr(numbers, "drawn_pairs", fail)
    assert numbers.number_pairs() == first and len(first) == 90
    assert len(list(few.iterdir())) == 1


def test_a_damaged_cache_is_made_anew(few: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = numbers.number_pairs()
    (path,) = few.iterdir()
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "text": stored["text"].replace("one", "two", 1)}))
    assert numbers.number_pairs() == first
    assert caplog.messages == [f"{path} is damaged and will be recreated"]


def test_another_version_of_the_library_has_a_place_of_its_own(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers.number_pairs()
    monkeypatch.setattr(numbers.metadata, "version", lambda _: "0.0.1")
    numbers.number_pairs()
    assert len(list(few.iterdir())) == 2


def test_a_missing_library_is_named(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "num2words", None)
    with pytest.raises(ConfigError, match=r"^[^\n]*num2words[^\n]*: pip install '\.\[text\]' in a checkout$"):
        Numbers()


def test_a_bad_vocabulary_is_named(few: Path) -> None:
    with pytest.raises(ValueError, match=r"^vocabulary=100: expected [^\n]+$"):
        Numbers(vocabulary=100)
