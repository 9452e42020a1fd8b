import gzip
import itertools
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.data.parallel import ParallelText
from runner.data.vocabulary import BEGIN, END, PAD
from runner.errors import ConfigError

THINGS = ("house", "horse", "tree", "river", "garden", "child")
COLOURS = ("red", "blue", "green", "white")
ENGLISH = [f"the {thing} is {colour} ." for thing, colour in itertools.product(THINGS, COLOURS)]
GERMAN = [f"{thing} und größer , {colour} !" for thing, colour in itertools.product(THINGS, COLOURS)]
NAMES: dict[str, Any] = {
    "train": ["train.en", "train.de"],
    "validation": ["val.en", "val.de"],
    "test": ["test.en", "test.de"],
}

Make = Callable[..., ParallelText]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(folder: Path, name: str, lines: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode())


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """20 pairs for training, 2 for validation, 4 for testing."""
    folder = tmp_path / "corpus"
    for language, lines in (("en", ENGLISH), ("de", GERMAN)):
        write(folder, f"train.{language}", lines[:20])
        write(folder, f"val.{language}", lines[20:22])
        write(folder, f"test.{language}", lines[20:])
    return folder


@pytest.fixture
def make(corpus: Path) -> Make:
    return lambda **more: ParallelText(**{**NAMES, "root": corpus, "vocabulary": 320, **more})


def texts(data: ParallelText, split: str, **options: Any) -> set[tuple[str, str]]:
    batches = list(data.eval_batches(split, **options))
    return {pair for batch in batches for pair in zip(batch.sources, batch.references, strict=True)}


def refuse(make: Make, expected: str, **more: Any) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        make(**more)
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)


def test_lines_are_pairs_in_their_split(make: Make) -> None:
    data = make()
    assert data.kind == "pairs" and data.splits == ("train", "validation", "test")
    assert data.sizes() == {"train": 20, "validation": 2, "test": 4}
    assert data.model_arguments() == {"vocabulary": data.vocabulary.size} and data.vocabulary.size <= 320
    assert texts(data, "train") == set(zip(ENGLISH[:20], GERMAN[:20], strict=True))
    assert texts(data, "test") == set(zip(ENGLISH[20:], GERMAN[20:], strict=True))


def test_evaluation_batches_hold_the_ids_of_their_texts(make: Make) -> None:
    (batch,) = make().eval_batches("test")
    assert batch.decode is not None and len(batch) == 4
    for row, text in zip(batch.source.tolist(), batch.sources, strict=True):
        assert END in row and batch.decode(row) == text
    for row, text in zip(batch.target.tolist(), batch.references, strict=True):
        assert row[0] == BEGIN and END in row and batch.decode(row) == text
        assert set(row[row.index(END) + 1 :]) <= {PAD}


def test_a_limit_takes_the_first_pairs_of_the_file(make: Make) -> None:
    assert texts(make(), "train", limit=3) == set(zip(ENGLISH[:3], GERMAN[:3], strict=True))
    assert len(texts(make(), "test", limit=100)) == 4


def test_evaluation_batches_are_the_same_each_time_and_of_limited_size(make: Make) -> None:
    data = make()
    batches = list(data.eval_batches("train", batch_size=30))
    assert len(batches) > 3 and sum(map(len, batches)) == 20
    assert all(max(batch.source.numel(), batch.target[:, 1:].numel()) <= 30 for batch in batches)
    for one, other in zip(batches, make().eval_batches("train", batch_size=30), strict=True):
        assert torch.equal(one.source, other.source) and one.references == other.references


def test_an_unknown_split_is_named(make: Make) -> None:
    with pytest.raises(ValueError, match=r"^split 'dev' holds no pairs; those that do: train, validation, test$"):
        make().eval_batches("dev")


def test_training_batches_are_those_of_the_training_split(make: Make) -> None:
    data = make()
    batches = data.train_batches(80, seed=0)
    shown = [batches.batch(step) for step in range(batches.steps_per_epoch)]
    decoded = [data.vocabulary.decode(row) for batch in shown for row in batch.source.tolist()]
    assert sorted(decoded) == sorted(ENGLISH[:20])
    assert all(batch.references == [] for batch in shown)
    again = make().train_batches(80, seed=0)
    assert all(torch.equal(again.batch(step).target, batch.target) for step, batch in enumerate(shown))


def test_to_moves_every_split(make: Make) -> None:
    data = make()
    assert data.to("meta") is data and data.device == torch.device("meta")
    assert all(getattr(data, split).target.tokens.is_meta for split in data.splits)


def test_the_current_folder_and_absolute_names(corpus: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus)
    assert make(root=None).sizes() == make().sizes()
    absolute = {split: [str(corpus / name) for name in names] for split, names in NAMES.items()}
    monkeypatch.chdir("/")
    assert make(root=None, **absolute).sizes() == make().sizes()


def test_gzip_by_content_whatever_the_name(corpus: Path, make: Make) -> None:
    plain = make()
    path = corpus / "train.de"
    path.write_bytes(gzip.compress(path.read_bytes()))
    (corpus / "plain.gz").write_bytes((corpus / "train.en").read_bytes())
    packed = make(train=["plain.gz", "train.de"])
    assert texts(packed, "train") == texts(plain, "train")
    assert packed.vocabulary.json() == plain.vocabulary.json()


def test_byte_order_mark_line_ends_and_outer_white_space_do_not_count(corpus: Path, make: Make) -> None:
    plain = texts(make(), "train")
    lines = (corpus / "train.en").read_text().splitlines()
    (corpus / "train.en").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(f" {line}\t" for line in lines).encode())
    assert texts(make(), "train") == plain


def test_only_a_line_feed_ends_a_line(corpus: Path, make: Make) -> None:
    odd = "one\u2028line\x85with\x0bmany\x1cends\rinside"
    write(corpus, "test.en", [odd, *ENGLISH[21:]])
    assert (odd, GERMAN[20]) in texts(make(), "test")


def test_pairs_with_an_empty_side_are_left_out_of_every_split(
    corpus: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    write(corpus, "train.en", ["", *ENGLISH[1:20]])
    write(corpus, "train.de", [*GERMAN[:18], " \t", GERMAN[19]])
    write(corpus, "test.de", ["\u00a0", *GERMAN[21:]])
    with caplog.at_level(logging.WARNING, "runner"):
        data = make()
    assert data.sizes() == {"train": 18, "validation": 2, "test": 3}
    assert (ENGLISH[1], GERMAN[1]) in texts(data, "train")
    assert caplog.messages == [
        "data.train=[train.en,train.de]: left out 2 of 20 pairs, empty on a side",
        "data.test=[test.en,test.de]: left out 1 of 4 pairs, empty on a side",
    ]


def test_long_training_pairs_are_left_out_and_long_test_sources_cut(
    corpus: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    long = " ".join(map(str, range(60)))
    write(corpus, "train.en", [long, *ENGLISH[1:20]])
    write(corpus, "train.de", [*GERMAN[:19], long])
    write(corpus, "test.en", [long, *ENGLISH[21:]])
    write(corpus, "test.de", [*GERMAN[20:23], long])
    with caplog.at_level(logging.INFO, "runner"):
        data = make(longest=40)
    assert data.sizes() == {"train": 18, "validation": 2, "test": 4}
    assert int(data.train.lengths().max()) <= 41
    pairs = dict(texts(data, "test"))
    (cut,) = (source for source in pairs if source not in ENGLISH)
    assert long.startswith(cut) and pairs[cut] == GERMAN[20] and int(data.test.source.lengths.max()) == 41
    assert pairs[ENGLISH[23]] == long
    messages = [record.getMessage() for record in caplog.records if "vocabulary" not in record.getMessage()]
    assert messages == [
        "data.train: left out 2 of 20 pairs, of more than data.longest=40 subwords",
        "data.test: cut 1 of 4 sources to data.longest=40 subwords",
    ]


def test_exactly_the_longest_allowed_stays(corpus: Path, make: Make) -> None:
    write(corpus, "train.en", [f"{ENGLISH[0]} {ENGLISH[1]}", *ENGLISH[1:20]])
    longest = int(make().train.lengths().max()) - 1
    assert make(longest=longest).sizes()["train"] == 20
    assert make(longest=longest - 1).sizes()["train"] == 19


def test_no_training_pair_short_enough(make: Make) -> None:
    refuse(make, r"^longest=1: no training pair is that short", longest=1)


@pytest.mark.parametrize("longest", [0, 2.5, True, "x"])
def test_a_bad_longest_is_named(make: Make, longest: object) -> None:
    with pytest.raises(ValueError, match=rf"^longest={longest!r}: expected [^\n]+$"):
        make(longest=longest)


def test_a_bad_vocabulary_is_named(make: Make) -> None:
    with pytest.raises(ValueError, match=r"^vocabulary=258: expected a whole number of at least 259$"):
        make(vocabulary=258)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("names", [[], ["a.en"], ["a", "b", "c"], "a.en", 0.1, None, ["a.en", 3], ["a.en", ""]])
def test_anything_but_two_names_is_refused(make: Make, split: str, names: object) -> None:
    refuse(make, rf"^{split}=\S*: not a pair of file names; expected \[SOURCE,TARGET\]", **{split: names})


def test_a_missing_file_is_named(corpus: Path, make: Make) -> None:
    path = re.escape(str(corpus / "other.de"))
    refuse(make, rf"^test=\[test\.en,other\.de\]: {path}: no such file", test=["test.en", "other.de"])


def test_a_missing_folder_is_named(make: Make, tmp_path: Path) -> None:
    refuse(make, r"^root=\S+nowhere: no such folder", root=tmp_path / "nowhere")


def test_a_folder_is_no_file(corpus: Path, make: Make) -> None:
    (corpus / "folder").mkdir()
    refuse(make, r"^train=\[folder,train\.de\]: \S+folder can't be read: ", train=["folder", "train.de"])


def test_files_of_unequal_length_are_refused(corpus: Path, make: Make) -> None:
    write(corpus, "val.de", GERMAN[:3])
    refuse(make, r"^validation=\[val\.en,val\.de\]: \S+val\.en has 2 lines, \S+val\.de has 3; expected")


def test_bad_utf8_is_named_by_file_and_line(corpus: Path, make: Make) -> None:
    content = (corpus / "train.de").read_bytes().split(b"\n")
    content[4] = "größer".encode("latin-1")
    (corpus / "train.de").write_bytes(b"\n".join(content))
    refuse(make, r"^train=\[train\.en,train\.de\]: \S+train\.de, line 5: not UTF-8 \(.+\); expected")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("lines", [[], [" ", ""]])
def test_a_split_without_pairs_is_refused(corpus: Path, make: Make, split: str, lines: list[str]) -> None:
    for name in NAMES[split]:
        write(corpus, name, lines)
    refuse(make, rf"^{split}=\S+: \S+ and \S+ hold no pair of non-empty lines; expected")


@pytest.mark.parametrize("keep", [6, 40, -4])
def test_a_damaged_gzip_file_is_named(corpus: Path, make: Make, keep: int) -> None:
    path = corpus / "train.de"
    path.write_bytes(gzip.compress(path.read_bytes())[:keep])
    refuse(make, r"^train=\S+: \S+train\.de is a damaged or truncated gzip file: ")


def test_the_fingerprint_follows_the_content_and_not_the_place(corpus: Path, tmp_path: Path) -> None:
    known = ParallelText.fingerprint(**NAMES, root=corpus, vocabulary=320, longest=100)
    moved = corpus.rename(tmp_path / "moved")
    (moved / "train.en").write_bytes(gzip.compress((moved / "train.en").read_bytes()))
    (moved / "train.en").rename(moved / "packed")
    names = {**NAMES, "train": [str(moved / "packed"), "train.de"]}
    assert ParallelText.fingerprint(**names, root=moved) == known


@pytest.mark.parametrize("name", ["train.en", "val.de", "test.de"])
def test_other_content_has_another_fingerprint(corpus: Path, name: str) -> None:
    known = ParallelText.fingerprint(**NAMES, root=corpus)
    content = (corpus / name).read_bytes()
    (corpus / name).write_bytes(content[:-2] + b"?\n")
    assert ParallelText.fingerprint(**NAMES, root=corpus) != known


def test_swapped_files_have_another_fingerprint(corpus: Path) -> None:
    swapped = {**NAMES, "test": NAMES["test"][::-1]}
    assert ParallelText.fingerprint(**swapped, root=corpus) != ParallelText.fingerprint(**NAMES, root=corpus)


def test_the_fingerprint_of_what_is_not_there_is_an_error_that_names_it(corpus: Path) -> None:
    with pytest.raises(ConfigError, match=r"^train=\[a,b\]: \S+a: no such file; expected [^\n]+$"):
        ParallelText.fingerprint(**{**NAMES, "train": ["a", "b"]}, root=corpus)
