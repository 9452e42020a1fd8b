"""run prune: further rows for a finished run, without training."""

import json
import shutil

import pytest
import yaml

from runner.files import read_rows, write_rows
from runner.runs import Run


def test_adds_rows_and_changes_nothing_else(call, finished, tree, drawn):
    before, rows = tree(finished.folder), read_rows(finished.pruning_file)
    result = call("prune", str(finished.folder), "prune.scores=random", "prune.sparsities=[0.5]", "prune.splits=[test]")
    assert result.code == 0
    assert result.out.splitlines()[-1] == str(finished.folder)
    after = tree(finished.folder)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"pruning.csv", "pruning.png", "status.json"}, "the last for the checksum alone"
    assert {**finished.status(), "checksums": None} == {**json.loads(before["status.json"]), "checksums": None}
    more = read_rows(finished.pruning_file)
    assert more[: len(rows)] == rows
    assert [(row["scores"], row["sparsity"], row["batch_norm"]) for row in more[len(rows) :]] == [
        ("own", "0.0", "recalibrated"),  # the unpruned network, which had not been measured recalibrated
        ("random", "0.5", "kept"),
        ("random", "0.5", "recalibrated"),
    ]


def test_measures_what_the_run_itself_measured(call, finished):
    rows = read_rows(finished.pruning_file)
    finished.pruning_file.unlink()
    words = ("prune.sparsities=[0,0.5]", "prune.splits=[test]", "prune.batch_norm=[kept]")
    assert call("prune", str(finished.folder), *words).code == 0
    assert read_rows(finished.pruning_file) == rows


def test_repeated_it_does_nothing(call, finished, tree):
    words = ("prune", str(finished.folder), "prune.sparsities=[0.5]", "prune.splits=[test]")
    assert call(*words).code == 0
    before = tree(finished.folder)
    assert call(*words).code == 0
    assert tree(finished.folder) == before


def test_takes_all_runs_below_a_folder(call, finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "runs" / "a")
    shutil.copytree(finished.folder, tmp_path / "runs" / "b" / "c")
    assert call("prune", "runs", "prune.sparsities=[0.25]", "prune.splits=[test]").code == 0
    for name in ("a", "b/c"):
        assert "0.25" in {row["sparsity"] for row in read_rows(Run(tmp_path / "runs" / name).pruning_file)}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prune.sparsities=[1.5]"], "prune.sparsities=[1.5]: expected"),
        (["prune.floor=-1"], "prune.floor=-1: expected auto or a number from 0 to 1"),
        (["prune.granularity=head"], "prune.granularity=head: PreActResNet has no attention whose heads are known"),
        (["prune.scope=world"], "prune.scope=world: expected auto, layer, uniform, erk, global"),
        (["seed=1"], "seed=1: there is no option seed"),
        (["model=resnet32"], "model"),
        (["device=tpu"], "device=tpu: expected"),
    ],
)
def test_bad_options(words, expected, call, finished, tree):
    before = tree(finished.folder)
    result = call("prune", str(finished.folder), *words)
    assert (result.code, result.out) == (2, "")
    assert expected in result.err
    assert len(result.err.splitlines()) == 1
    after = tree(finished.folder)
    assert after == before


def test_folders_that_are_no_finished_run(call, finished, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, said in (
        ("nowhere", "nowhere is not a folder"),
        ("empty", "empty is not a run folder and contains none"),
    ):
        for command in ("prune", "table"):
            result = call(command, folder)
            assert (result.code, result.out) == (2, "")
            assert said in result.err
    finished.write_status(state="running")
    result = call("prune", str(finished.folder))
    assert result.code == 2
    assert f"{finished.folder} is not finished (interrupted); run train resumes it" in result.err


@pytest.mark.parametrize("checksums", [True, False])
def test_damaged_files_are_named(checksums, call, finished, tmp_path):
    if not checksums:  # as in runs from before checksums were introduced
        finished.write_status(checksums={})
    for name in ("weights.safetensors", "scores.safetensors", "status.json", ".hydra/config.yaml", "pruning.csv"):
        copy = tmp_path / "copy"
        shutil.copytree(finished.folder, copy)
        (copy / name).write_bytes(b"\xff{[")
        result = call("prune", "copy", "prune.sparsities=[0.25]")
        assert result.code == 2, name
        assert f"copy/{name} is damaged" in result.err
        assert len(result.err.splitlines()) == 1
        shutil.rmtree(copy)


def test_a_configuration_with_a_part_missing_or_bad(call, finished):
    whole = finished.config()
    finished.unseal(finished.config_file)
    for change, said in (
        ({"seed": None}, "seed"),
        ({"model": None}, "model is missing"),
        ({"dropout": {**whole["dropout"], "alpha": 7}}, "dropout.alpha=7: expected a number from 0 to 1"),
        ({"dropout": {**whole["dropout"], "beta": 7}}, "'beta'"),
    ):
        config = {key: value for key, value in (whole | change).items() if value is not None}
        finished.config_file.write_text(yaml.safe_dump(config))
        result = call("prune", str(finished.folder))
        assert result.code == 2
        assert said in result.err
        assert len(result.err.splitlines()) == 1


def test_a_place_for_data_is_for_the_sets_that_have_one(call, finished):
    """This allows one command to sweep runs on digits and on CIFAR-10 together."""
    result = call("prune", str(finished.folder), "data.root=nowhere", "prune.sparsities=[0.5]")
    assert (result.code, result.err) == (0, "")


@pytest.fixture
def foreign(finished, tmp_path):
    """Return a copy of the finished run whose model is a user's own class."""
    shutil.copytree(finished.folder, tmp_path / "runs" / "own classes")
    run = Run(tmp_path / "runs" / "own classes")
    config = run.config()
    config["model"]["_target_"] = "own_models.Mine"
    run.config_file.write_text(yaml.safe_dump(config))
    run.write_status(checksums={})  # as if it had been trained with that class
    return run


@pytest.mark.parametrize("command", ["prune", "coadapt", "scree", "ticket"])
def test_a_run_with_classes_of_ones_own_names_folder_and_config_dir(command, call, foreign):
    result = call(command, str(foreign.folder))
    assert result.code == 2
    assert result.err.startswith(f"run: {foreign.folder}: model._target_=own_models.Mine: expected a class of runner")
    assert "--config-dir FOLDER" in result.err
    assert len(result.err.splitlines()) == 1


def test_one_run_with_classes_of_ones_own_among_many_is_left_out(call, finished, foreign, tmp_path, tree):
    shutil.copytree(finished.folder, tmp_path / "runs" / "usual")
    before = tree(foreign.folder)
    result = call("prune", "runs", "prune.sparsities=[0.25]", "prune.splits=[test]", "prune.batch_norm=[kept]")
    assert result.code == 0
    assert result.err.startswith("run: left out runs/own classes: model._target_=own_models.Mine: expected")
    assert len(result.err.splitlines()) == 1
    assert "0.25" in {row["sparsity"] for row in read_rows(Run(tmp_path / "runs" / "usual").pruning_file)}
    assert tree(foreign.folder) == before


def test_a_bad_stored_value_names_its_folder(call, finished):
    config = finished.config()
    config["prune"]["floor"] = 2
    finished.config_file.write_text(yaml.safe_dump(config))
    finished.write_status(checksums={})
    assert call("prune", str(finished.folder)).err.startswith(f"run: {finished.folder}: prune.floor=2: expected")


def test_a_sweep_measures_the_unpruned_network_which_old_files_lack(call, finished):
    rows = read_rows(finished.pruning_file)
    unpruned = [row for row in rows if float(row["floor"]) == 0]
    assert [(row["sparsity"], row["actual_sparsity"], row["split"]) for row in unpruned] == [("0.0", "0.0", "test")]
    assert len(rows) == 3
    finished.unseal(finished.pruning_file)
    write_rows(finished.pruning_file, list(rows[0]), [row for row in rows if row not in unpruned])
    assert "unpruned" not in call("list", "runs", str(finished.folder)).out
    words = ("prune.sparsities=[0,0.5]", "prune.splits=[test]", "prune.batch_norm=[kept]")
    assert call("prune", str(finished.folder), *words).code == 0
    assert sorted(map(str, read_rows(finished.pruning_file))) == sorted(map(str, rows))
    assert f", unpruned {100 * float(unpruned[0]['accuracy']):.2f}" in call("list", "runs", str(finished.folder)).out
    assert call("prune", str(finished.folder), "prune.floor=0", *words).code == 0
    more = [row for row in read_rows(finished.pruning_file) if row not in rows]
    assert [(row["floor"], row["sparsity"]) for row in more] == [("0.0", "0.5")]
