import csv

import pytest
import torch

from runner.benchmarks import run
from runner.benchmarks.report import COLUMNS
from runner.cli import main
from runner.commands.bench import main as bench
from runner.errors import ConfigError

TINY = ["model.width=0.125", "model.blocks=1", "schedule.batch_size=4", "images.train=24", "images.test=6"]
TINY += ["images.size=8", "precision=float32", "device=cpu", "pairs=6"]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_it_prints_a_table_and_writes_its_csv(tmp_path, capsys):
    folder = tmp_path / "below" / "out"
    asked = ["only=[step,data,sweep]", "dropouts=[targeted]", "threads=1", f"out={folder}"]
    assert bench([], [*TINY, *asked]) == 0
    (path,) = folder.iterdir()
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["what"].split(",")[0] for row in rows] == ["step", "step", "training with its data", "sweep point"]
    for row in rows:
        assert 0 < float(row["low"]) <= float(row["ratio"]) <= float(row["high"])
        assert (row["threads"], row["precision"], row["pairs"]) == ("1", "float32", "6")
        assert row["torch"] == torch.__version__
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("what")
    assert shown[-1] == str(path)
    assert all(any(row["what"] in line for line in shown) for row in rows)


def test_it_warns_below_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run.load, "warning", lambda *_: "warning: of the load")
    bench([], [*TINY, "only=[data]", f"out={tmp_path}"])
    assert capsys.readouterr().out.splitlines()[-2] == "warning: of the load"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("only=[step,speed]", r"only=\[step,speed\]: expected a list of step, data, sweep, matmul"),
        ("only=[]", "only=.*expected a list"),
        ("only=step", "only=step: expected a list"),
        ("pairs=5", "pairs=5: expected a whole number of at least 6"),
        ("pairs=many", "pairs=many: expected"),
        ("threads=0", "threads=0: expected null or a whole number of at least 1"),
        ("images.test=0", "images.test=0: expected a whole number of at least 1"),
        ("precision=fp8", "precision=fp8: expected auto, float32, bf16"),
        ("dropouts=[targetted]", "dropout=targetted: unknown; did you mean targeted"),
        ("dropouts=[]", "dropouts=.*expected a list"),
        ("images.train=127", "images.train=127: expected a whole batch, schedule.batch_size=128, or more"),
        ("dropouts=targeted", "dropouts=targeted: expected a list"),
        ("dropout=targeted", "dropout=targeted: use dropouts="),
        ("dropout.alpha=0.5", "dropout.alpha=0.5: use dropouts="),
        ("data=digits", "data=digits: run bench generates its own images"),
        ("model=resnet23", "model=resnet23: unknown; did you mean resnet32"),
        ("pair=40", "there is no option pair; did you mean pairs"),
        ("only=step,data", "several values need -m"),
    ],
)
def test_bad_options_are_named_and_nothing_is_written(tmp_path, word, message):
    with pytest.raises(ConfigError, match=message):
        bench([], [f"out={tmp_path / 'out'}", word])
    assert not (tmp_path / "out").exists()


def test_it_takes_no_folder(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "outputs"])
    assert ended.value.code == 2
    assert "'outputs' is not understood" in capsys.readouterr().err
