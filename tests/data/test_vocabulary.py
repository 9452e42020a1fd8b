import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.data import vocabulary
from runner.data.vocabulary import BEGIN, END, PAD, SMALLEST, SPECIAL, Vocabulary
from runner.errors import ConfigError

LINES = [
    f"the {thing} is {colour}, naïve and größer" for thing in ("house", "horse", "tree") for colour in ("red", "blue")
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "run" / "vocabulary"


@pytest.fixture(scope="module")
def learned() -> Vocabulary:
    return Vocabulary.learned(LINES, 300)


@pytest.fixture
def count_learning(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one whenever a vocabulary is learned."""
    log: list[int] = []
    learn = Vocabulary.learned

    def counted(lines: list[str], size: int) -> Vocabulary:
        log.append(size)
        return learn(lines, size)

    monkeypatch.setattr(Vocabulary, "learned", staticmethod(counted))
    return log


@given(TEXT)
def test_any_text_comes_back_exactly(learned: Vocabulary, text: str) -> None:
    ids = learned.encode([text])[0]
    assert learned.decode(ids) == text
    assert all(SPECIAL <= number < learned.size for number in ids)


@pytest.mark.parametrize(
    "text", ["<pad> [PAD] </s> <|endoftext|>", " two  spaces ", "\u2028 and \x85", "e\u0301 é 🇩🇪👩‍👩‍👧"]
)
def test_peculiar_text_comes_back_exactly(learned: Vocabulary, text: str) -> None:
    assert learned.decode([BEGIN, *learned.encode([text])[0], END, PAD]) == text


def test_decoding_stops_at_the_first_end_and_drops_the_other_signs(learned: Vocabulary) -> None:
    house, horse = learned.encode(["house", "horse"])
    assert learned.decode([BEGIN, *house, END, *horse, END, PAD, PAD]) == "house"
    assert learned.decode([PAD, *house, BEGIN, PAD, *horse]) == "househorse"
    assert learned.decode([END, *house]) == learned.decode([]) == ""


def test_half_a_character_becomes_the_replacement_character(learned: Vocabulary) -> None:
    assert learned.decode(learned.encode(["€"])[0][:1]) == "\ufffd"


def test_frequent_words_are_single_subwords_and_the_size_is_an_upper_bound(learned: Vocabulary) -> None:
    assert [len(ids) for ids in learned.encode(["the", " is", "qqq"])] == [1, 1, 3]
    assert Vocabulary.learned(LINES, 280).size == 280
    assert learned.size == Vocabulary.learned(LINES, 10_000).size == 297
    assert Vocabulary.learned(LINES, SMALLEST).size == SMALLEST


@pytest.mark.parametrize("size", [0, SMALLEST - 1, 300.5, True, "many"])
def test_a_bad_size_is_named(size: object) -> None:
    expected = rf"^vocabulary={size!r}: expected a whole number of subwords, 259 or above$"
    with pytest.raises(ValueError, match=expected):
        Vocabulary.of(LINES, size)  # type: ignore[arg-type]


def test_the_same_in_every_process_with_any_number_of_threads() -> None:
    lines = [f"word{number % 37} Wörter{number % 11} {number}" for number in range(3000)]
    code = (
        "import hashlib\n"
        "from runner.data.vocabulary import Vocabulary\n"
        "lines = [f'word{number % 37} Wörter{number % 11} {number}' for number in range(3000)]\n"
        "print(hashlib.sha256(Vocabulary.learned(lines, 600).json().encode()).hexdigest())\n"
    )
    here = vocabulary.hashlib.sha256(Vocabulary.learned(lines, 600).json().encode()).hexdigest()
    for settings in ({"TOKENIZERS_PARALLELISM": "false"}, {"RAYON_NUM_THREADS": "3", "TOKENIZERS_PARALLELISM": "true"}):
        environment = {**os.environ, **settings}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == here


def test_the_second_time_it_comes_from_the_cache(folder: Path, count_learning: list[int]) -> None:
    first = Vocabulary.of(LINES, 300)
    assert len(list(folder.iterdir())) == 1
    again = Vocabulary.of(LINES, 300)
    assert count_learning == [300]
    assert again.json() == first.json() and again.size == first.size
    assert again.encode(LINES) == first.encode(LINES)
    assert [again.decode(ids) for ids in again.encode(LINES)] == LINES


def test_other_text_another_size_or_another_library_is_another_vocabulary(
    count_learning: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    Vocabulary.of(LINES, 300)
    Vocabulary.of(LINES, 301)
    Vocabulary.of([*LINES[:-1], LINES[-1] + "!"], 300)
    monkeypatch.setattr(vocabulary.tokenizers(), "__version__", "0.0.1")
    Vocabulary.of(LINES, 300)
    assert count_learning == [300, 301, 300, 300]


def cut_short(content: str) -> str:
    return content[: len(content) // 2]


def changed_inside(content: str) -> str:
    stored = json.loads(content)
    return json.dumps({**stored, "text": stored["text"].replace("th", "ht", 1)})


@pytest.mark.parametrize("damage", [cut_short, changed_inside, lambda _: "", lambda _: "[1]", lambda _: '{"text": 1}'])
def test_a_damaged_cache_is_made_anew_with_a_line_in_the_log(
    folder: Path, count_learning: list[int], caplog: pytest.LogCaptureFixture, damage: Callable[[str], str]
) -> None:
    first = Vocabulary.of(LINES, 300)
    (path,) = folder.iterdir()
    content = path.read_text()
    path.write_text(damage(content))
    with caplog.at_level(logging.WARNING, "runner"):
        assert Vocabulary.of(LINES, 300).json() == first.json()
    assert [record.getMessage() for record in caplog.records] == [f"{path} is damaged and will be recreated"]
    assert count_learning == [300, 300] and path.read_text() == content


def test_without_a_place_for_the_cache_there_is_none(tmp_path: Path, count_learning: list[int]) -> None:
    (tmp_path / "run").write_text("a file where the folder would be")
    assert Vocabulary.of(LINES, 300).json() == Vocabulary.of(LINES, 300).json()
    assert count_learning == [300, 300]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("given", ["", "relative"])
def test_the_home_folder_has_the_cache_where_no_other_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Vocabulary.of(LINES, 300)
    assert len(list((tmp_path / "home" / ".cache" / "run" / "vocabulary").iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"^[^\n]*tokenizers[^\n]*: pip install '\.\[text\]' in a checkout$"):
        Vocabulary.of(LINES, 300)
