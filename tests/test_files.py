"""Files that are written atomically, CSV files that grow row by row, and YAML."""

import os
from pathlib import Path

import pytest
import yaml

from runner import files
from runner.config.paths import CONF
from runner.errors import DamagedRun
from runner.files import append_row, load_config, load_yaml, read_rows, write_bytes, write_rows, write_text

COLUMNS = ["a", "b"]


def test_text_and_bytes(tmp_path):
    write_text(tmp_path / "x", "γ\n")
    assert (tmp_path / "x").read_text() == "γ\n"
    write_bytes(tmp_path / "x", b"\x00")
    assert (tmp_path / "x").read_bytes() == b"\x00"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_writing_that_fails_leaves_the_old_content(tmp_path, monkeypatch):
    write_text(tmp_path / "x", "old")

    def half(path, content):
        with path.open("wb") as file:
            file.write(content[:1])
        raise OSError("full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="full"):
        write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old"


def test_rows_come_back_as_text(tmp_path):
    path = tmp_path / "x.csv"
    append_row(path, COLUMNS, {"a": 1, "b": 0.1})
    append_row(path, COLUMNS, {"b": "x, y", "a": None})
    assert path.read_text() == 'a,b\n1,0.1\n,"x, y"\n'
    assert read_rows(path) == [{"a": "1", "b": "0.1"}, {"a": "", "b": "x, y"}]


def test_numbers_survive_to_the_last_bit(tmp_path):
    path = tmp_path / "x.csv"
    for number in (1 / 3, 1e-300, 0.1 + 0.2):
        write_rows(path, ["a"], [{"a": number}])
        assert float(read_rows(path)[0]["a"]) == number


def test_an_empty_file_gets_its_header(tmp_path):
    """A crash can leave an empty file."""
    path = tmp_path / "x.csv"
    path.touch()
    append_row(path, COLUMNS, {"a": 1, "b": 2})
    assert read_rows(path) == [{"a": "1", "b": "2"}]


def test_a_row_is_on_disk_when_append_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    append_row(tmp_path / "x.csv", COLUMNS, {"a": 1, "b": 2})
    assert synced == [len("a,b\n1,2\n")]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\n1,2\n3,", 1),  # cut inside a row
        ("a,b\n1,2\n3,4", 1),  # possibly complete, but that is uncertain
        ("a,b\n1,2\n3\n4,5\n", 2),  # a row that is too short
        ("a,b\n1,2\n3,4,5\n", 1),  # a row that is too long
        ("a,", 0),
        ("a,b\n", 0),
        ("", 0),
    ],
)
def test_what_a_crash_cut_short_is_left_out(text, rows, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    assert len(read_rows(tmp_path / "x.csv")) == rows


def test_no_file_has_no_rows(tmp_path):
    assert read_rows(tmp_path / "x.csv") == []


def test_what_is_no_text_is_damaged(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"a,b\n\xff\xfe\n")
    with pytest.raises(DamagedRun, match=r"x\.csv is damaged"):
        read_rows(tmp_path / "x.csv")


def test_a_whole_table_at_once(tmp_path):
    write_rows(tmp_path / "x.csv", COLUMNS, [{"a": 1, "b": 2}])
    write_rows(tmp_path / "x.csv", COLUMNS, [])
    assert (tmp_path / "x.csv").read_text() == "a,b\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize("quick", [True, False], ids=["libyaml", "PyYAML alone"])
def test_yaml_means_the_same_with_and_without_libyaml(quick, monkeypatch):
    if not quick:
        monkeypatch.setattr(files, "_QUICK_YAML", yaml.SafeLoader)
    texts = [path.read_text() for path in sorted(CONF.rglob("*.yaml"))]
    texts += ["", "a: 1e3\nb: 1.0e+3\nc: 0o17\nd: 12:30\ne: 2026-01-31\nf: ~\ng: 'yes'\nh: yes\nγ: ±\n"]
    assert len(texts) > 100
    assert [load_yaml(text) for text in texts] == [yaml.safe_load(text) for text in texts]
    for bad in ("a: [", "!!python/name:os.system", "\x07"):
        with pytest.raises(yaml.YAMLError):
            load_yaml(bad)


def test_configurations_that_differ_in_the_seed_are_read_like_any_yaml():
    text = "a:\n  b: [1, 2]\nseed: 0\nc: x\n"
    texts = [text, text.replace("seed: 0", "seed: 12"), text.replace("seed: 0", "seed: 007")]
    texts += ["a: 1\n", "seed: 1\nseed: 2\n", "seed: 4\n'seed': 5\n", "- a\n", "a:\n  seed: 3\n", "seed: x\n"]
    assert [load_config(text) for text in texts] == [yaml.safe_load(text) for text in texts]
    assert list(load_config(texts[1])) == ["a", "seed", "c"]


def test_a_configuration_read_twice_is_not_shared():
    text = "a:\n  b: [1, 2]\nseed: 3\n"
    load_config(text)["a"]["b"].append(3)
    assert load_config(text)["a"]["b"] == [1, 2]
