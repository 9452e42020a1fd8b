"""`schedule.image_sizes`, progressive resizing, from the command line."""

import pytest

from runner.files import read_rows

OPTIONS = ("model.input_size=16", "schedule.length=4it", "schedule.image_sizes=[0.5,1]")


def test_trains_and_measures_at_full_size(call, tmp_path, tiny):
    assert call("train", *tiny, *OPTIONS, "folder=a").code == 0
    assert call("train", *tiny, *OPTIONS[:2], "folder=b").code == 0
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in "ab"]
    assert weights[0] != weights[1], "the small images made no difference"
    assert len(read_rows(tmp_path / "a" / "pruning.csv")) == len(read_rows(tmp_path / "b" / "pruning.csv"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["schedule.image_sizes=[0.5]"], "the last is 1"),
        (["schedule.image_sizes=[0,1]"], "above 0"),
        (["schedule.image_sizes=0.5"], "the last is 1"),
        (["schedule.image_sizes=[0.25,1]", "model.input_size=16"], "images of 4 px are too small for model=resnet32"),
        (["schedule.image_sizes=[0.5,1]", "model=lenet", "model.input_size=32"], "model=lenet fails on images of "),
    ],
)
def test_what_does_not_fit_is_one_line_and_writes_nothing(words, message, call, tmp_path):
    result = call("train", "debug=smoke", *words)
    assert result.code == 2 and message in result.err, result.err
    assert result.err.startswith("run: schedule.image_sizes=") and len(result.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
