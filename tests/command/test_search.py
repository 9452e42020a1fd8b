"""run search: trials are runs, judged on validation examples, and the study goes on."""

import csv
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from runner.runs import Run, find_runs

optuna = pytest.importorskip("optuna")
space = pytest.importorskip("runner.config.space")

FAST = ("debug=smoke", "model=lenet", "prune.granularity=weight", "prune.batch_norm=[kept]", "outputs=out")
ALPHA = ("dropout=targeted", "dropout.alpha=interval(0.1,0.9)")


def trials(out: str) -> list[dict[str, str]]:
    with Path(out.splitlines()[-1]).open(newline="") as file:
        return list(csv.DictReader(file))


def test_trials_are_runs_and_the_study_goes_on(call, tmp_path, monkeypatch):
    words = ("search", *FAST, *ALPHA, "dropout.gamma=choice(0.5,0.75)", "search.sparsity=0.9", "search.startup=2")
    result = call(*words, "search.trials=2")
    assert result.code == 0, result.err
    runs = find_runs([tmp_path / "out"])
    assert len(runs) == 2
    found = trials(result.out)
    for row in found:
        run = Run(Path(row["folder"]))
        config, rows = run.config(), run.pruning_rows()
        assert run.state() == "finished"
        assert (config["dropout"]["alpha"], config["dropout"]["gamma"]) == (
            float(row["dropout.alpha"]),
            float(row["dropout.gamma"]),
        )
        assert {one["split"] for one in rows} == {"validation"}, "test examples are never looked at"
        (at,) = [one for one in rows if float(one["sparsity"]) == 0.9]
        assert float(row["validation_accuracy"]) == pytest.approx(float(at["accuracy"]))
    best = max(found, key=lambda row: float(row["validation_accuracy"]))
    assert f"run prune {best['folder']} measures it on test examples" in result.out

    # A trial that a kill has left behind is proposed again, and finished ones are not trained again.
    file = next((tmp_path / "out" / "search").rglob("study.db"))
    study = optuna.load_study(storage=f"sqlite:///{file}", study_name="search")
    left = study.ask()
    left.suggest_float("dropout.alpha", 0.1, 0.9)
    left.suggest_categorical("dropout.gamma", ["0.5", "0.75"])
    stamps = {run.weights_file: run.weights_file.stat().st_mtime_ns for run in runs}
    result = call(*words, "search.trials=4")
    assert result.code == 0, result.err
    again = trials(result.out)
    assert again[:2] == found
    assert [row["state"] for row in again] == ["finished", "finished", "failed", "finished"]
    assert float(again[3]["dropout.alpha"]) == pytest.approx(left.params["dropout.alpha"], rel=1e-3)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(find_runs([tmp_path / "out"])) == 3


def test_failures_and_stopped_trials_are_told(call, tmp_path, monkeypatch):
    from optuna.trial import Trial

    monkeypatch.setattr(Trial, "should_prune", lambda self: self.params["schedule.learning_rate"] == "0.02")
    # More epochs than trials: one that is proposed again goes on where it was stopped.
    words = ("schedule.learning_rate=0.01,0.02,1e30", "schedule.length=150it", "data.validation=0.9", "search.seed=3")
    result = call("search", *FAST, *words, "search.sparsity=0.5", "search.trials=9", "search.pruner=median")
    assert result.code == 0, result.err
    said = {(row["schedule.learning_rate"], row["state"]): row["error"] for row in trials(result.out)}
    assert set(said) == {("0.01", "finished"), ("0.02", "stopped"), ("1e+30", "failed")}
    assert said["0.02", "stopped"].startswith("stopped by run search after epoch ")
    assert "not finite" in said["1e+30", "failed"]
    stopped = [run for run in find_runs([tmp_path / "out"]) if "stopped by run search" in str(run.status()["error"])]
    assert len(stopped) == 1 and stopped[0].checkpoint_file.exists(), "run train goes on with it"


def test_a_budget(call, tmp_path):
    words = ("search", *FAST, "dropout=none,targeted", "search.trials=2")
    result = call(*words, "search.bytes=1k")
    assert result.code == 1
    assert "no trial has finished" in result.err and "within the budget" in result.out
    result = call(*words, "search.bytes=1MB")
    assert result.code == 0, result.err
    for row in trials(result.out):
        if row["state"] == "finished":
            rows = Run(Path(row["folder"])).pruning_rows()
            assert float(row["validation_accuracy"]) == pytest.approx(max(float(one["accuracy"]) for one in rows))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*ALPHA,), "run search needs one goal"),
        ((*ALPHA, "search.sparsity=0.9", "search.bytes=1k"), "run search needs one goal"),
        (("dropout=targeted", "search.sparsity=0.9"), "run search needs options to search"),
        (("dropout=glob(*)", "search.sparsity=0.9"), "expected interval(a,b)"),
        (("dropout.alhpa=interval(0,1)", "dropout=targeted", "search.sparsity=0.9"), "did you mean dropout.alpha"),
        ((*ALPHA, "search.sparsity=0.9", "prune.splits=[test]"), "measures validation examples only"),
        ((*ALPHA, "search.sparsity=0.8", "prune.sparsities=[0.5]"), "expected one of prune.sparsities"),
        ((*ALPHA, "search.sparsity=0.9", "search.trials=0"), "search.trials=0: expected a whole number"),
        ((*ALPHA, "search.sparsity=0.9", "search.pruner=best"), "search.pruner=best: expected"),
        ((*ALPHA, "search.bytes=many"), "search.bytes=many: expected null or a number above 0"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(words, said, call, tmp_path):
    result = call("search", *FAST, *words)
    assert result.code == 2
    assert said in result.err and len(result.err.splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_without_optuna(call, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    result = call("search", *ALPHA, "search.sparsity=0.9")
    assert result.code == 2
    assert result.err == "run: run search needs optuna, which is not installed: pip install '.[search]' in a checkout\n"


@pytest.mark.parametrize(
    ("text", "values"),
    [("range(0,1,0.3)", "0 0.3 0.6 0.9"), ("range(0.1,0.35,0.1)", "0.1 0.2 0.3"), ("range(0,0.5,0.25)", "0 0.25")],
)
def test_ranges_have_the_values_that_they_have_in_a_sweep(text, values):
    (override,) = OverridesParser.create().parse_overrides([f"dropout.alpha={text}"])
    swept = [float(value) for value in override.sweep_string_iterator()]
    assert [float(value) for value in space._distribution(override).choices] == pytest.approx(swept)
    assert swept == pytest.approx([float(value) for value in values.split()])
