"""Files of a finished run that were changed later are detected and named, with a remedy."""

from pathlib import Path

import pytest

from runner.files import read_rows
from runner.runs import Run

SWEEP = ("prune.sparsities=[0.25]", "prune.splits=[test]", "prune.batch_norm=[kept]")


def flip(path: Path, place: int = -1) -> None:
    """Change one byte, by default the last one, which in safetensors belongs to a weight."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.fixture
def with_scores(train):
    """A run whose variant has its own scores."""
    return train("dropout=smallify", "folder=scored")


@pytest.mark.parametrize("name", ["weights.safetensors", "scores.safetensors"])
def test_a_flipped_byte_of_tensors(name, call, with_scores, tree):
    run = with_scores
    flip(run.folder / name)
    before = tree(run.folder)
    result = call("prune", str(run.folder), *SWEEP)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"run: {run.folder / name} is damaged (its checksum is not the one in status.json)")
    assert "force=true starts over" in result.err
    assert tree(run.folder) == before


@pytest.mark.parametrize("command", ["prune", "table", "coadapt", "ticket", "scree"])
def test_a_changed_configuration(command, call, finished):
    """Every letter of the configuration affects how the weights are used."""
    replace(finished.config_file, "alpha: 0.66", "alpha: 0.67")
    result = call(command, str(finished.folder))
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"run: {finished.config_file} is damaged (its checksum")


@pytest.mark.parametrize("command", ["prune", "table"])
@pytest.mark.parametrize("damage", ["a letter", "a digit", "cut after a row", "cut in a row", "cut to nothing"])
def test_damaged_rows(damage, command, call, finished):
    path = finished.pruning_file
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    damaged = {
        "a letter": text.replace("kept", "kepu", 1),
        "a digit": text.replace("0.75", "0.76", 1),
        "cut after a row": "".join(lines[:-1]),
        "cut in a row": text[:-9],
        "cut to nothing": "",
    }[damage]
    path.write_text(damaged)
    result = call(command, str(finished.folder))
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"run: {path} is damaged (its checksum")
    assert len(result.err.splitlines()) == 1
    assert path.read_text() == damaged
    assert call("list", "runs", str(finished.folder)).out.startswith("damaged ")


@pytest.mark.parametrize("damage", [("kept", "kepu"), ("test", "tezt"), ("0.75", "0.x5")])
def test_a_flipped_letter_in_rows_without_a_checksum(damage, call, finished):
    """As in runs from before checksums were introduced."""
    finished.unseal(finished.pruning_file)
    replace(finished.pruning_file, *damage)
    result = call("table", str(finished.folder))
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"run: {finished.pruning_file} is damaged (")
    assert len(result.err.splitlines()) == 1


def test_a_deleted_table_is_measured_again(call, finished, tiny):
    """This is what the message advises."""
    rows = read_rows(finished.pruning_file)
    flip(finished.pruning_file, 40)
    assert f"delete it and run prune {finished.folder} measures again" in call("table", str(finished.folder)).err
    finished.pruning_file.unlink()
    sweep = [word for word in tiny if word.startswith("prune.")]
    assert call("prune", str(finished.folder), *sweep).code == 0
    assert read_rows(finished.pruning_file) == rows
    assert call("table", str(finished.folder)).code == 0


def test_force_is_a_way_out(call, finished, tiny):
    words = ("train", *tiny, "dropout=targeted", f"folder={finished.folder}")
    rows = finished.pruning_file.read_text()
    for file in (finished.weights_file, finished.config_file, finished.pruning_file):
        flip(file)
    assert call(*words).code == 2
    assert call(*words, "force=true").code == 0
    assert finished.pruning_file.read_text() == rows
    for file in (finished.weights_file, finished.scores_file, finished.config_file, finished.pruning_file):
        assert finished.sealed(file)
        finished.verify(file)


def test_runs_without_checksums_are_read(call, finished, tiny, tmp_path):
    status = finished.status()
    del status["checksums"]
    finished.status_file.unlink()
    finished.write_status(**status)
    for command in ("table", "coadapt"):
        more = ["layers=[blocks.0.conv1]", "limit=20", "members=0", "probes=2"] if command == "coadapt" else []
        assert call(command, str(finished.folder), *more).code == 0
    assert call("list", "runs", str(finished.folder)).out.startswith("finished ")
    assert "checksums" not in finished.status()
    assert call("prune", str(finished.folder), *SWEEP).code == 0
    assert call("train", *tiny, "dropout=targeted", f"folder={finished.folder}").code == 0
    assert Run(finished.folder).sealed(finished.pruning_file)


@pytest.mark.parametrize("checksums", ["x", [], {"weights.safetensors": 3}, None])
def test_odd_checksums_are_none_or_damage(checksums, call, finished):
    finished.write_status(checksums=checksums)
    result = call("prune", str(finished.folder), *SWEEP)
    assert result.code == (2 if checksums and isinstance(checksums, dict) else 0)
    assert len(result.err.splitlines()) <= 1
