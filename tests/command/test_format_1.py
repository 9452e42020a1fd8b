"""Run folders of format 1, whose hash covered every option of the configuration, can still be used."""

import shutil
from pathlib import Path

import pytest

from runner.files import read_rows
from runner.runs import Run

STORED = Path(__file__).parents[1] / "fixtures" / "format1"
NAME = "digits-resnet32_he-targeted-95c11c88"
# The command that created the folder.
WORDS = (
    *("train", "model=resnet32_he", "model.blocks=1", "model.width=0.125", "debug=smoke", "dropout=targeted"),
    *("precision=float32", "prune.sparsities=[0,0.5,0.9]", "prune.batch_norm=[kept]", "outputs=outputs"),
)


@pytest.fixture
def run(tmp_path) -> Run:
    shutil.copytree(STORED, tmp_path / "outputs" / "train")
    return Run(tmp_path / "outputs" / "train" / NAME / "seed0")


def test_it_is_listed_tabulated_and_swept_further(call, run):
    listed = call("list", "runs")
    assert NAME in listed.out and "finished" in listed.out
    assert call("table").code == 0
    before = read_rows(run.pruning_file)
    assert call("prune", str(run.folder), "prune.sparsities=[0.8]", "prune.batch_norm=[kept]").code == 0
    after = read_rows(run.pruning_file)
    assert len(after) > len(before)
    assert {row["floor"] for row in after if row["sparsity"] == "0.8"} == {"0.75"}
    assert call("table").code == 0


def test_recalibrated_rows_of_an_older_version_are_pointed_at(call, run):
    """They may use images without augmentation; rows measured by this version do not."""
    words = ("prune", str(run.folder), "prune.batch_norm=[recalibrated]", "prune.splits=[test]")
    for sparsity in (0.8, 0.7):
        assert call(*words, f"prune.sparsities=[{sparsity}]").err == ""
    run.write_status(recalibrated_on=None)
    result = call(*words, "prune.sparsities=[0.6]")
    assert result.code == 0
    assert "pruning.csv was written by an older version" in result.err
    assert len(result.err.splitlines()) == 1


def test_the_same_command_finds_it_finished(call, run):
    weights = run.weights_file.read_bytes()
    result = call(*WORDS)
    assert result.code == 0, result.err
    assert "already finished, nothing was trained" in result.out
    assert [path.name for path in run.folder.parents[1].iterdir()] == [NAME]
    assert run.weights_file.read_bytes() == weights
    more = call(*WORDS, "seed=1")
    assert more.code == 0, more.err
    names = {path.name for path in run.folder.parents[1].iterdir()}
    assert len(names) == 2
    tabulated = call("table")
    assert "n = 2" in tabulated.out or "±" in tabulated.out, tabulated.out


def test_an_unfinished_one_is_refused_in_one_line(call, run):
    run.write_status(state="running", trained=False)
    run.weights_file.unlink()
    result = call(*WORDS)
    assert result.code == 2
    assert "was started by an older version and can't be resumed by this one; force=true starts it over" in result.err
    assert len(result.err.splitlines()) == 1
