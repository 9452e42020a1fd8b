"""run list runs with artificial runs, which it must distinguish from one another."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.commands.list import main as list_
from runner.files import write_rows
from runner.tasks.metrics import Metric

Make = Callable[..., Any]


@pytest.fixture
def lines(tmp_path, monkeypatch, capsys) -> Callable[..., list[str]]:
    """Return the output of run list runs."""
    monkeypatch.chdir(tmp_path)

    def listed(*folders: str) -> list[str]:
        assert list_(["runs", *folders], []) == 0
        return capsys.readouterr().out.splitlines()

    return listed


def test_scores_are_printed_on_their_own_scale(make_run: Make, row: Make, lines) -> None:
    make_run([row(0.0, 0.5, bleu=26.2), row(0.5, 0.5, bleu=4.8)], metrics=["bleu", "accuracy"])
    make_run([row(0.0, 0.987)], seed=1)
    make_run([row(0.0, 0.5, mse=0.01234)], seed=2, metrics=["mse", "accuracy"])
    said = lines()
    assert "  bleu at sparsity weight: 0% 26.20, 50% 4.80" in said[0]
    assert "  accuracy at sparsity weight: 0% 98.70" in said[1]
    assert "  mse at sparsity weight: 0% 0.01234" in said[2]


def test_options_in_which_runs_differ_are_shown(make_run: Make, row: Make, lines, tmp_path) -> None:
    """Information in the folder's name is not repeated, and options are compared among runs of the same kind."""
    for number, (dropout, options) in enumerate(
        [
            ("none", {}),
            ("none", {"schedule.length": "9ep", "model.width": 0.5}),
            ("targeted", {"dropout.alpha": 0.5}),
            ("targeted", {"dropout.alpha": 0.66}),
            ("ramping", {}),
        ]
    ):
        folder = tmp_path / "outputs" / "train" / f"digits-resnet32-{dropout}-{number:08x}" / "seed0"
        make_run([row(0.0, 0.9)], dropout, folder=folder, **options)
    said = [line.split("  accuracy")[0].split("seed0")[1].strip() for line in lines()]
    assert said == ["width=1.0 length=50ep", "width=0.5 length=9ep", "", "alpha=0.5", "alpha=0.66"]


def test_folders_that_the_user_named_say_which_kind_they_hold(make_run: Make, row: Make, lines, tmp_path) -> None:
    make_run([row(0.0, 0.9)], "none", folder=tmp_path / "outputs" / "a")
    make_run([row(0.0, 0.9)], "targeted", seed=1, folder=tmp_path / "outputs" / "b")
    assert [line.split("  ")[-2] for line in lines()] == ["none seed=0", "targeted seed=1"]


def test_smoke_runs_are_counted_alone(make_run: Make, row: Make, lines) -> None:
    make_run([row(0.0, 0.9)])
    make_run([row(0.0, 0.9)], folder=Path("outputs/smoke/train/x/seed0"))
    assert len(lines("outputs/smoke")) == 1
    run, hint = lines()
    assert "smoke" not in run
    assert hint == "and 1 of debug=smoke: run list runs outputs/smoke"


@pytest.mark.parametrize(("seconds", "shown"), [(47.6, "48 s"), (95, "1 min 35 s"), (7530, "2 h 05 min")])
def test_date_and_duration(seconds, shown, make_run: Make, row: Make, lines) -> None:
    run = make_run([row(0.0, 0.9)])
    run.write_status(started="2026-01-31T12:03:59+0100", seconds=seconds)
    assert lines()[0].endswith(f"  (2026-01-31 12:03, {shown} of training)")


def test_a_run_that_goes_on_tells_how_long_it_has_trained(make_run: Make, lines) -> None:
    run = make_run(state="running")
    run.write_status(started="2026-01-31T12:03:59+0100")
    write_rows(run.metrics_file, ["epoch", "seconds"], [{"epoch": 1, "seconds": 40.0}, {"epoch": 2, "seconds": 80.5}])
    assert lines()[0].endswith("  epoch 2  (2026-01-31 12:03, 1 min 20 s of training)")


def test_no_pandas_and_no_torch() -> None:
    """These imports would make it slow."""
    script = "import sys, runner.commands.list; sys.exit(bool({'pandas', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_metric_of_an_unknown_task_is_printed_as_it_is(make_run: Make, row: Make, lines) -> None:
    """Runs of a foreign task from before metrics were stored, and a run whose status describes the metric."""
    make_run([row(0.0, 0.5, word_errors=0.123456)], metrics=["word_errors", "accuracy"])
    described = make_run([row(0.0, 0.5, word_errors=0.123456)], seed=1, metrics=["word_errors", "accuracy"])
    described.write_status(metrics=[{"name": "word_errors", "percent": True}, "no metric", {"name": "other", "x": 1}])
    said = lines()
    assert "word_errors at sparsity weight: 0% 0.1235" in said[0]
    assert "word_errors at sparsity weight: 0% 12.35" in said[1]
    assert described.metric("word_errors") == Metric("word_errors", "word errors", percent=True)
    assert described.metric("other") == Metric("other")


def test_an_option_that_a_class_gained_later_is_no_difference(make_run: Make, row: Make, lines) -> None:
    """`regrown` stands for an option of RigL that older runs lack; only a value other than the default is shown."""
    old = {"dropout._target_": "runner.dropout.rigl.RigL", "dropout.name": "rigl"}
    make_run([row(0.0, 0.5)], dropout="none", **old)
    make_run([row(0.0, 0.5)], dropout="none", seed=1, **old, **{"dropout.updates": 50, "dropout.drop": 0.3})
    make_run([row(0.0, 0.5)], dropout="none", seed=2, **old, **{"dropout.updates": 7})
    said = lines()
    assert sum("updates=50" in line for line in said) == 2
    assert sum("updates=7" in line for line in said) == 1
    assert not any("drop=" in line for line in said)


def test_no_file_of_a_run_is_read_twice(make_run: Make, row: Make, lines, opened) -> None:
    """A thousand runs are then listed in seconds."""
    runs = [make_run([row(0.0, 0.9)], seed=seed) for seed in range(3)]
    for run in runs:
        run.seal(run.config_file, run.pruning_file, seconds=3.0)
    with opened() as paths:
        assert len(lines()) == 3
    own = ("status.json", ".hydra/config.yaml", "pruning.csv")
    assert sorted(path for path in paths if any(path.is_relative_to(run.folder) for run in runs)) == sorted(
        run.folder / name for run in runs for name in own
    )
