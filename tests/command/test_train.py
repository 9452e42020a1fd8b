"""The files that a finished run leaves, and that a finished run is not repeated."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from runner.config.compose import Composer
from runner.files import read_rows
from runner.runs import Run, metrics_columns, pruning_columns


@pytest.mark.slow
def test_prints_the_table_and_the_folder_and_names_it_readably(command, tmp_path, tiny):
    result = command("train", *tiny, "dropout=targeted", "outputs=out")
    assert result.code == 0
    assert result.err == "", "no bar and no warning where standard error is no terminal"
    lines = result.out.splitlines()
    assert lines[0] == "test accuracy (%) after pruning: digits · resnet32 · targeted · 4it · seed 0"
    assert re.fullmatch(r"out/train/digits-resnet32-targeted-[0-9a-f]{8}/seed0", lines[-1])
    assert Run(tmp_path / lines[-1]).state() == "finished"


def test_holds_every_file(finished_once):
    expected = {".hydra", ".lock", "metrics.csv", "pruning.csv", "pruning.png", "run.log"}
    expected |= {"scores.safetensors", "status.json", "weights.safetensors"}
    assert {path.name for path in finished_once.folder.iterdir()} == expected
    assert {path.name for path in finished_once.config_file.parent.iterdir()} == {"config.yaml", "overrides.yaml"}


def test_files_may_be_read_by_whoever_may_read_the_others(finished_once):
    modes = {path.name: path.stat().st_mode for path in finished_once.folder.iterdir() if path.is_file()}
    assert len(set(modes.values())) == 1, modes


def test_status_tells_what_made_the_numbers(finished_once):
    status = finished_once.status()
    assert (status["state"], status["trained"], status["error"]) == ("finished", True, None)
    assert status["steps"] == 4
    assert status["threads"] == torch.get_num_threads()
    assert status["precision"] in ("float32", "bf16")
    assert status["examples"] == {"train": 1293, "validation": 144, "test": 360}
    assert status["versions"]["torch"] == torch.__version__
    assert status["command"].startswith("run train debug=smoke ")
    assert status["started"] <= status["finished"]


def test_the_stored_configuration_is_the_one_that_ran(finished_once):
    config = yaml.safe_load(finished_once.config_file.read_text())
    overrides = yaml.safe_load(finished_once.overrides_file.read_text())
    again = Composer("train").single(overrides)
    assert config == {**again, "precision": finished_once.status()["precision"]}
    assert (config["dropout"]["name"], config["dropout"]["alpha"]) == ("targeted", 0.66)


def test_tables_have_their_columns_and_rows(finished_once):
    (row,) = read_rows(finished_once.metrics_file)
    assert list(row) == metrics_columns(["accuracy"])
    assert (row["epoch"], row["step"]) == ("1", "4")
    points = read_rows(finished_once.pruning_file)
    assert list(points[0]) == pruning_columns(["accuracy"])
    assert [(p["granularity"], p["floor"], p["sparsity"], p["split"]) for p in points] == [
        ("weight", "0.0", "0.0", "test"),  # the unpruned network
        ("weight", "0.75", "0.0", "test"),
        ("weight", "0.75", "0.5", "test"),
    ]


def test_weights_are_plain_and_not_pruned(finished_once):
    weights = load_file(finished_once.weights_file)
    assert not any("parametrizations" in name for name in weights)
    matrices = [weight for weight in weights.values() if weight.ndim == 4]
    assert matrices and all((weight == 0).float().mean() < 0.01 for weight in matrices)


def test_a_finished_run_is_only_reported(train, call, tree, tiny):
    run = train("outputs=out")
    before = tree(run.folder)
    again = call("train", *tiny, "outputs=out")
    assert again.code == 0
    assert again.out.splitlines()[-1] == str(run.folder)
    assert "test accuracy (%) after pruning" in again.out
    assert again.out.splitlines()[-2] == "already finished, nothing was trained; force=true trains again"
    assert tree(run.folder) == before


def test_a_changed_sweep_adds_rows_without_training(train, monkeypatch):
    run = train("outputs=out", "dropout=targeted")
    before, rows = run.weights_file.read_bytes(), run.pruning_file.read_text()
    monkeypatch.setattr("runner.training.loop.Training.fit", None)
    again = train("outputs=out", "dropout=targeted", "prune.sparsities=[0,0.5,0.99]")
    assert again == run
    assert run.weights_file.read_bytes() == before
    assert run.pruning_file.read_text().startswith(rows)
    assert [row["sparsity"] for row in read_rows(run.pruning_file)] == ["0.0", "0.0", "0.5", "0.99"]


def test_force_trains_again_to_the_same_numbers(train, tree):
    run = train("outputs=out")
    before, status = tree(run.folder), run.status()
    run.pruning_file.write_text("")
    run.write_status(started="1999-12-31T23:59:59+0000")
    assert train("outputs=out", "force=true") == run
    after = tree(run.folder)
    for name in ("pruning.csv", "weights.safetensors", "scores.safetensors"):
        assert after[name] == before[name]
    assert len(read_rows(run.metrics_file)) == 1
    assert run.status()["started"] >= status["started"]


def test_seeds_share_a_parent_and_differ(train):
    first, second = train("outputs=out"), train("outputs=out", "seed=1")
    assert first.folder.parent == second.folder.parent
    assert second.folder.name == "seed1"
    assert first.weights_file.read_bytes() != second.weights_file.read_bytes()


def test_a_folder_of_ones_own(train, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert train("folder=2024").folder == Path("2024"), "a number is a fine name"
    assert train("folder=~/runs").folder == tmp_path / "home" / "runs"
    assert not Path("outputs").exists()


def test_a_folder_that_holds_another_run_is_left(finished, call, tree, tiny):
    before = tree(finished.folder)
    result = call("train", *tiny, "dropout=none", f"folder={finished.folder}")
    assert result.code == 2
    assert f"{finished.folder} holds a run of another configuration" in result.err
    assert "force=true" in result.err
    assert tree(finished.folder) == before


def test_a_folder_with_somebody_elses_files_is_left(call, tmp_path, tree, tiny):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "metrics.csv").write_text("my,own\n1,2\n")
    before = tree(tmp_path)
    result = call("train", *tiny, "folder=mine")
    assert result.code == 2
    assert "mine holds metrics.csv but no status.json" in result.err
    assert tree(tmp_path) == before


def test_a_folder_with_other_files_is_fine(train, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for force in ("false", "true"):
        assert train("folder=mine", f"force={force}").state() == "finished"
        assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_a_damaged_status_is_named_and_force_helps(finished, call, tiny):
    finished.status_file.write_text('{"state": "fini')
    words = ("train", *tiny, "dropout=targeted", f"folder={finished.folder}")
    result = call(*words)
    assert result.code == 2
    assert f"{finished.status_file} is damaged" in result.err
    assert "force=true" in result.err
    assert call(*words, "force=true").code == 0
    assert json.loads(finished.status_file.read_text())["state"] == "finished"


def test_weights_of_another_model_are_named(finished, call, tiny):
    finished.weights_file.write_bytes(finished.scores_file.read_bytes())
    finished.seal(finished.weights_file)
    words = ("train", *tiny, "dropout=targeted", f"folder={finished.folder}", "prune.scores=random")
    result = call(*words)
    assert result.code == 2
    assert f"{finished.weights_file} is damaged" in result.err


def test_bf16_on_a_processor_without_it_is_one_line_on_the_terminal_and_in_the_log(call, monkeypatch, tiny):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    words = (*tiny, "precision=bf16", "device=cpu", "schedule.length=1it", "prune.sparsities=[0]", "folder=run")
    trained = call("train", *words)
    assert trained.code == 0
    assert trained.err.startswith("run: precision=bf16: this processor has no bf16 instructions")
    assert len(trained.err.splitlines()) == 1
    assert Run(Path("run")).log_file.read_text().count("precision=bf16: ") == 1
    assert call("prune", "run", "device=cpu", "prune.sparsities=[0.5]", "prune.splits=[test]").err == trained.err
    assert call("train", *tiny, "device=cpu", "precision=float32", "folder=other").err == ""


def test_a_note_stays_with_the_run_and_is_no_part_of_it(train, call):
    run = train("dropout=targeted", "note=the first try")
    assert run.status()["note"] == "the first try"
    assert train("dropout=targeted") == run
    assert run.status()["note"] == "the first try", "without one it keeps what it has"
    before = run.weights_file.stat().st_mtime_ns
    assert train("dropout=targeted", "note=once more") == run
    assert run.status()["note"] == "once more"
    assert run.weights_file.stat().st_mtime_ns == before, "nothing is trained again"
    assert call("train", "note=[a]").code == 2
