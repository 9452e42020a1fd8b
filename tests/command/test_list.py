"""run list: available choices, and existing runs."""

import shutil

from runner.reporting.formats import duration
from runner.runs import Run


def test_lists_every_group_with_one_line_each(call):
    result = call("list")
    assert result.code == 0
    heads = [line for line in result.out.splitlines() if not line.startswith(" ")]
    for group in ("model=", "dropout=", "data=", "schedule=", "table="):
        assert group in heads
    for line in result.out.splitlines():
        if line.startswith(" "):
            name, _, about = line.strip().partition("  ")
            assert name and about.strip(), f"{name} has no description"
        assert len(line) <= 120
    assert "  targeted " in result.out


def test_lists_one_group(call):
    result = call("list", "dropout")
    lines = result.out.splitlines()
    assert lines[0] == "dropout="
    assert any(line.split() == ["none", "no", "dropout"] for line in lines)
    assert "resnet32" not in result.out


def test_a_group_that_is_none(call):
    for word in ("nonsense", "hydra", "../conf"):
        result = call("list", word)
        assert (result.code, result.out) == (2, "")
        assert f"run list {word}: expected runs, model, dropout" in result.err


def test_a_misspelt_group_has_a_near_one(call):
    for word, near in (("run", "runs"), ("dropuot", "dropout"), ("dataset", "data")):
        assert call("list", word).err.endswith(f"; did you mean {near}?\n")


def test_lists_a_users_own_files_too(call, tmp_path):
    (tmp_path / "mine" / "dropout").mkdir(parents=True)
    (tmp_path / "mine" / "dropout" / "own.yaml").write_text("# a variant of my own\n_target_: x.Y\n")
    result = call("list", "dropout", "--config-dir", "mine")
    assert result.code == 0
    assert any(" ".join(line.split()) == "own a variant of my own" for line in result.out.splitlines())
    assert "targeted" in result.out


def test_no_runs_yet(call, tmp_path):
    result = call("list", "runs")
    assert (result.code, result.out) == (0, "no runs yet: there is no outputs folder here\n")
    assert list(tmp_path.iterdir()) == []


def test_runs_with_their_state_and_results(call, finished, tmp_path):
    (tmp_path / "outputs").mkdir()
    for name in ("a", "b", "c", "d"):
        shutil.copytree(finished.folder, tmp_path / "outputs" / name)
    Run(tmp_path / "outputs" / "b").write_status(state="running")
    Run(tmp_path / "outputs" / "b").pruning_file.unlink()
    Run(tmp_path / "outputs" / "c").write_status(state="failed", error="UserError: no")
    Run(tmp_path / "outputs" / "d").status_file.write_text("{")
    result = call("list", "runs")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].startswith("finished     outputs/a  accuracy at sparsity weight: 0% ")
    assert ", 50% " in lines[0]
    assert lines[1].startswith("interrupted  outputs/b  epoch 1  (")
    assert lines[2].startswith("failed       outputs/c  UserError: no  (")
    started = finished.status()["started"][:16].replace("T", " ")
    trained = duration(finished.status()["seconds"])
    for line in lines[:3]:
        assert line.endswith(f"  ({started}, {trained} of training)")
    assert lines[3].startswith("damaged      outputs/d  outputs/d/status.json is damaged")


def test_odd_files_are_damage_not_a_crash(call, finished):
    finished.write_status(headline=None)
    assert call("list", "runs", str(finished.folder)).out.startswith("damaged      ")
    finished.status_file.write_text("[]")
    assert call("list", "runs", str(finished.folder)).out.startswith("damaged      ")
    finished.status_file.unlink()
    assert call("list", "runs", str(finished.folder)).code == 0


def test_a_folder_without_runs(call, tmp_path):
    for folder, said in (("nowhere", "nowhere is not a folder"), (".", ". is not a run folder and contains none")):
        result = call("list", "runs", folder)
        assert result.code == 2
        assert said in result.err
