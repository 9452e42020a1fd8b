"""The Python API."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import runner
from runner.errors import ConfigError, UserError

# In float32, which the models of the API use, whatever precision=auto means on this processor.
SMALL = ("model=resnet32_he", "model.blocks=1", "model.width=0.125", "debug=smoke", "precision=float32")
SMALL += ("prune.batch_norm=[kept]",)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("api") / "outputs"
    made = [runner.train(*SMALL, f"dropout={name}", f"outputs={outputs}") for name in ("none", "targeted")]
    return outputs, made


def test_importing_it_imports_no_torch():
    code = "import sys, runner; runner.find; assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_pruned_model_computes_what_the_sweep_measured(results):
    _, (none, targeted) = results
    for result, sparsity in ((none, 0.5), (targeted, 0.9)):
        model = result.model(sparsity=sparsity)
        assert not model.training
        images, labels = (torch.cat(parts) for parts in zip(*result.data.eval_batches("test", 200), strict=True))
        with torch.no_grad():
            accuracy = float((model(images).argmax(1) == labels).float().mean())
        rows = result.pruning
        row = rows[(rows.granularity == "weight") & (rows.split == "test") & (rows.sparsity == sparsity)]
        assert accuracy == pytest.approx(float(row.accuracy.iloc[0]))
    assert all(weight.any() for weight in none.model().parameters() if weight.dim() > 1), "models are copies"


def test_a_model_is_pruned_in_the_scope_of_its_variant(tmp_path):
    result = runner.train(*SMALL, "dropout=targeted", "dropout.scope=global", f"outputs={tmp_path}")
    weights = [weight for name, weight in result.model(0.9).named_parameters() if name.endswith("conv2.weight")]
    zeros = [float((weight == 0).float().mean()) for weight in weights]
    assert max(zeros) - min(zeros) > 0.02
    (row,) = result.pruning.query("granularity == 'weight' and split == 'test' and sparsity == 0.9").to_dict("records")
    nonzero = sum(int((parameter != 0).sum()) for parameter in result.model(0.9).parameters())
    assert nonzero - sum(int((p != 0).sum()) for p in result.model().parameters()) == (
        row["nonzero_weights"] - row["prunable_weights"]
    )


def test_filters_of_a_model(results):
    (first, *_), whole = results[1], results[1][0].model()
    pruned = first.model(0.5, "unit")
    name = next(name for name, module in pruned.named_modules() if name.endswith("conv1"))
    zero = pruned.get_submodule(name).weight.flatten(1).any(1).logical_not()
    assert zero.sum() == len(zero) // 2
    assert whole.get_submodule(name).weight.flatten(1).any(1).all()


def test_frames_and_status(results):
    _, (none, _) = results
    assert list(none.metrics.step) == [4]
    assert none.metrics.train_loss.dtype == float
    assert {"sparsity", "accuracy"} <= set(none.pruning.columns)
    assert none.status["state"] == "finished"
    assert none.config["dropout"]["name"] == "none"
    assert repr(none) == f"Result({str(none.folder)!r})"


def test_runs_are_found_by_their_options(results):
    outputs, (none, targeted) = results
    assert {result.folder for result in runner.find(outputs)} == {none.folder, targeted.folder}
    assert [result.folder for result in runner.find(outputs, dropout="targeted")] == [targeted.folder]
    assert [result.folder for result in runner.find(str(outputs), dropout__gamma=[0.5, 0.75])] == [targeted.folder]
    assert runner.find(outputs, dropout="ramping") == []
    assert runner.load(none.folder.parent).folder == none.folder


def test_a_finished_run_is_not_trained_again(results, monkeypatch):
    outputs, (none, _) = results
    monkeypatch.setattr("runner.training.loop.Training.one_step", None)
    assert runner.train(*SMALL, "dropout=none", f"outputs={outputs}").folder == none.folder


def test_errors_say_what_is_expected(results, tmp_path):
    outputs, (none, _) = results
    with pytest.raises(ConfigError, match=r"holds 2 runs; runner\.find"):
        runner.load(outputs)
    with pytest.raises(ConfigError, match="is not a folder"):
        runner.load(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="dropout=targetd: unknown; did you mean targeted"):
        runner.train("dropout=targetd")
    with pytest.raises(ValueError, match="sparsity=2"):
        none.model(sparsity=2)
    with pytest.raises(ValueError, match="granularity='layer'"):
        none.model(sparsity=0.5, granularity="layer")
    with pytest.raises(ValueError, match="scores='taylor': expected one of own, magnitude"):
        none.model(sparsity=0.5, scores="taylor")
    with pytest.raises(ValueError, match="granularity='filter'"):
        none.model(granularity="filter")
    with pytest.raises(ValueError, match=r"sparsity=1\.5"):
        none.model(sparsity=1.5)
    with pytest.raises(AttributeError):
        _ = runner.nothing
    none.run.write_status(state="failed")
    try:
        with pytest.raises(UserError, match="is not finished"):
            runner.load(none.folder).model()
    finally:
        none.run.write_status(state="finished")


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    example = Path(__file__).parents[1] / "examples" / "python_api.py"
    done = subprocess.run([sys.executable, example, "out"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "none"
    assert "at 75 %" in done.stdout
