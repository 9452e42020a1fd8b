"""A language model of a user's own text, from the command line to its compact network."""

import json

import pytest

from runner.files import read_rows
from runner.runs import Run

SMALL = ("model=gpt", "debug=smoke", "model.layers=1", "data.context=16", "prune.splits=[test]", "task.longer=4")


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text("".join(f"{i} times {i} is {i * i}.\n" for i in range(400)))
    return "data.train=[text.txt]"


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_model_brings_text_task_and_schedule(call, text, tmp_path, positions):
    asked = "prune.granularity=[weight,n_of_m,feature,head,block]"
    rotary = [] if positions == "learned" else [f"model.positions={positions}"]
    done = call("train", *SMALL, text, "model.width=0.5", "prune.sparsities=[0,0.5]", asked, "folder=one", *rotary)
    assert done.code == 0, done.err
    assert "bits per byte" in done.out
    run = Run(tmp_path / "one")
    rows = {(row["granularity"], float(row["sparsity"])): row for row in read_rows(run.pruning_file)}
    for granularity in ("weight", "n_of_m", "feature", "head", "block"):
        assert float(rows[granularity, 0.5]["actual_sparsity"]) == pytest.approx(0.5, abs=0.01)
        assert 0 < float(rows[granularity, 0.5]["bits_per_byte"]) < 20
        assert float(rows[granularity, 0.5]["perplexity"]) > 1
    (epoch,) = read_rows(run.metrics_file)
    assert float(epoch["validation_bits_per_byte"]) == pytest.approx(float(epoch["validation_loss"]) / 0.6931, rel=1e-3)
    samples = (tmp_path / "one" / "samples.txt").read_text()
    assert samples.count("prompt '") == samples.count("output '") == 3 * 6  # unpruned once, five pruned
    status = json.loads((tmp_path / "one" / "status.json").read_text())
    assert status["headline"] == {"metric": "bits_per_byte", "higher_is_better": False}

    for granularity in ("feature", "head", "weight"):
        made = call(
            "compact",
            "one",
            f"granularity={granularity}",
            "sparsity=0.5",
            "rounds=6",
            "turn=0",
            "batches=[1]",
            "onnxruntime=false",
        )
        assert made.code == 0, made.err


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_heads_of_a_model_that_is_not_trained_are_inspected(call, positions):
    done = call(
        "inspect", "model=gpt", f"model.positions={positions}", "model.layers=1", "granularity=head", "sparsity=0.5"
    )
    assert done.code == 0, done.err
    assert "64/128 x 128/128" in done.out
