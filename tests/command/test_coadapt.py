"""run coadapt: from finished runs to the paper's table 1 and figure 1."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from runner.cli import main
from runner.commands.coadapt import main as coadapt
from runner.config.compose import Composer
from runner.config.identity import identity
from runner.errors import ConfigError
from runner.files import read_rows
from runner.runs import Run

pytestmark = pytest.mark.usefixtures("undrawn")

# One prunable layer of 320 weights.
TOY = (
    "debug=smoke",
    "experiment=toy",
    "model.prune_logits=false",
    "data=digits",
    "schedule.length=8it",
    "model.width=0.5",
    "limit=null",
)
SWEEP = ("prune.sparsities=[0,0.75]", "prune.splits=[test]", "prune.granularity=weight")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds without dropout and one with, which tests must not change."""
    folder = tmp_path_factory.mktemp("toys")
    for name, words in {
        "none0": ("dropout=none", "seed=0"),
        "none1": ("dropout=none", "seed=1"),
        "targeted0": ("dropout=targeted", "seed=0", "dropout.alpha=0.5"),
    }.items():
        with pytest.raises(SystemExit) as ended:
            main(["train", *TOY, *SWEEP, *words, f"folder={folder / name}"])
        assert ended.value.code == 0
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _rows(folder="outputs/coadaptation/digits-mlp"):
    return pd.read_csv(Path(folder) / "table.csv")


def test_two_runs_side_by_side(trained, tree, capsys, drawn):
    before = tree(trained)
    assert coadapt([str(trained / "none0"), str(trained / "targeted0")], []) == 0
    said = capsys.readouterr().out
    out = Path("outputs/coadaptation/digits-mlp")
    names = ["matrix.png", "none-seed-0.npz", "table.csv", "table.md", "targeted-seed-0.npz"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert said.startswith((out / "table.md").read_text())
    assert said.splitlines()[-1] == str(out / "matrix.png")
    rows = _rows()
    assert rows["kind"].tolist() == ["run", "run"]
    assert rows["column"].tolist() == ["none", "targeted"]
    assert rows["weights"].tolist() == rows["shown"].tolist() == [320, 320]
    assert rows["probes"].tolist() == [0, 0]
    assert "320 weights of hidden.0; the smallest 75 % of every filter pruned" in said
    assert "mean cross-entropy of 360 test examples" in said
    for what in ("abs_share", "square_share"):
        shares = rows[[f"{what}_{part}" for part in ("kept", "between", "pruned")]]
        assert shares.sum(axis=1).tolist() == pytest.approx([1, 1])
    assert tree(trained) == before


def test_accuracies_are_those_that_the_sweep_measured(trained):
    coadapt([str(trained / "none0")], ["members=0", "probes=null"])
    row, sweep = _rows().iloc[0], read_rows(Run(trained / "none0").pruning_file)
    assert [row["accuracy"], row["accuracy_pruned"]] == pytest.approx([float(r["accuracy"]) for r in sweep])
    assert [row["loss"], row["loss_pruned"]] == pytest.approx([float(r["loss"]) for r in sweep], rel=1e-5)
    assert row["measured"] == pytest.approx(abs(row["loss_pruned"] - row["loss"]), rel=1e-6)
    assert row["predicted"] == pytest.approx(abs(row["gradient_term"] + row["curvature_term"]), rel=1e-6)
    assert row[["square_kept", "abs_share_kept"]].isna().all()
    out = Path("outputs/coadaptation/digits-mlp")
    assert sorted(path.name for path in out.iterdir()) == ["table.csv", "table.md"]


def test_seeds_are_averaged_and_copies_left_out(trained, tmp_path, capsys):
    shutil.copytree(trained, "runs")
    shutil.copytree("runs/none1", "runs/z again")
    coadapt(["runs"], ["out=here", "members=10", "probes=3"])
    rows = _rows("here")
    assert rows["kind"].tolist() == ["run", "run", "run", "mean", "std"]
    assert rows["column"].tolist() == ["none", "none", "targeted", "none", "none"]
    assert rows["n"].tolist() == [1, 1, 1, 2, 2]
    runs = rows[:2]["measured"]
    assert rows["measured"][3:].tolist() == pytest.approx([runs.mean(), runs.std()], rel=1e-6)
    text = Path("here/table.md").read_text()
    assert "none, 2 seeds |" in text
    assert "left out: runs/z again (seed 1 again)" in text
    assert "10 weights at evenly spaced ranks" in text
    assert "estimated with 3 probes" in text
    assert len(list(Path("here").glob("*.npz"))) == 3


def test_the_matrix_file_holds_all_that_belongs_to_it(trained):
    coadapt([str(trained / "none0")], ["layers=[hidden.0,logits]", "out=here"])
    with np.load("here/none-seed-0.npz", allow_pickle=False) as file:
        found = dict(file)
    assert found["layers"].tolist() == ["hidden.0", "logits"]
    m = 5 * 64 + 10 * 5
    assert found["matrix"].shape == (m, m)
    assert (np.diff(np.abs(found["theta"])) <= 0).all()
    weights = dict(_weights(Run(trained / "none0")))
    for layer, index, theta in zip(found["layer"][:20], found["index"][:20], found["theta"][:20], strict=True):
        assert weights[found["layers"][layer]][index] == theta
    assert np.bincount(found["layer"]).tolist() == [320, 50]
    assert found["pruned"].sum() == 5 * 48 + 10 * 3  # floor(0.75 * 5) of every row of the logits
    row = _rows("here").iloc[0]
    pruned = found["pruned"]
    assert row["gradient_term"] == pytest.approx(-(found["gradient"] * found["theta"])[pruned].sum(), rel=1e-6)
    assert row["curvature_term"] == pytest.approx(found["matrix"][pruned][:, pruned].sum() / 2, rel=1e-6)


def _weights(run):
    from safetensors.numpy import load_file

    for name, weight in load_file(run.weights_file).items():
        yield name.removesuffix(".weight"), weight.ravel()


def test_the_same_call_gives_the_same_bytes(trained, tree, drawn):
    words = ["members=30", "probes=2", "limit=50"]
    for out in ("a", "b"):
        coadapt([str(trained / "targeted0")], [*words, f"out={out}"])
    assert tree(Path("a")) == tree(Path("b"))
    assert _rows("a")["examples"].tolist() == [50]


def test_a_convolutional_network_with_batch_norm(finished_once, trained):
    """Block sums without a matrix, together with runs of another network, for all layers or a given one."""
    words = ["members=0", "probes=2", "limit=20", "split=validation", "out=here", "dtype=float64"]
    coadapt([str(finished_once.folder), str(trained / "none0")], words)
    rows = _rows("here").set_index("column")
    assert [name.split()[:2] for name in rows.index] == [["mlp", "none"], ["resnet32", "targeted"]]
    assert rows["layers"].str.split().map(len).tolist() == [1, 9]
    text = Path("here/table.md").read_text()
    assert text.count("estimated with 2 probes") == 2
    assert "18,816 weights of 9 layers" in text
    assert rows["split"].tolist() == ["validation", "validation"]
    assert rows["square_share_error_kept"].gt(0).all()
    sums = rows[["sum_pruned", "curvature_term"]]
    assert sums["sum_pruned"].tolist() == pytest.approx((2 * sums["curvature_term"]).tolist())
    coadapt([str(finished_once.folder)], ["layers=[blocks.0.conv1]", "limit=20", "members=6", "out=here"])
    assert _rows("here")["layers"].tolist() == ["blocks.0.conv1"]


def test_large_networks_have_a_smaller_matrix_or_none(trained, monkeypatch):
    from runner.analyses.coadaptation import study as module

    folders = [str(trained / "none0")]
    coadapt(folders, ["out=all"])
    monkeypatch.setattr(module, "ALL", 319)
    monkeypatch.setattr(module, "SOME", 7)
    coadapt(folders, ["out=some", "probes=2"])
    monkeypatch.setattr(module, "SOME_OF", 319)
    coadapt(folders, ["out=none", "probes=2"])
    rows = [_rows(folder).iloc[0] for folder in ("all", "some", "none")]
    assert [row["shown"] for row in rows] == [320, 7, 0]
    assert rows[0]["loss"] == rows[1]["loss"] == pytest.approx(rows[2]["loss"], rel=1e-6)
    assert rows[0]["loss"] != rows[2]["loss"]  # float32
    assert rows[0]["sum_kept"] == pytest.approx(rows[2]["sum_kept"], rel=1e-4)


def test_the_papers_rows_stand_beside_its_own_network(trained, monkeypatch):
    from runner.analyses.coadaptation import report

    monkeypatch.setattr(report, "_TOY", {"data": "digits", "model": "mlp"})
    folders = [str(trained / name) for name in ("none0", "targeted0")]
    coadapt(folders, ["members=0", "probes=null"])
    paper = _rows().query("kind == 'paper'")
    assert paper["predicted"].tolist() == [0.120698, 0.0145907]
    assert paper["accuracy_pruned"].tolist() == pytest.approx([0.2613, 0.4014])
    for word in ("split=validation", "sparsity=0.5"):
        coadapt(folders, ["members=0", "probes=null", "outputs=other", word])
        assert "paper" not in _rows("other/coadaptation/digits-mlp")["kind"].tolist()


def test_the_toy_experiment_is_the_papers():
    config = Composer("train").single(
        ["experiment=toy", "model.prune_logits=false", "dropout=targeted", "dropout.alpha=0.5"]
    )
    assert (config["data"]["name"], config["data"]["crop"], config["data"]["flip"]) == ("cifar10", 0, False)
    assert (config["model"]["name"], config["model"]["widths"]) == ("mlp", [10])
    schedule = config["schedule"]
    assert (schedule["length"], schedule["learning_rate"], schedule["momentum"]) == ("200ep", 0.001, 0)
    assert (schedule["drops"], schedule["weight_decay"], schedule["clip_norm"]) == ([], 0, None)
    assert (config["dropout"]["alpha"], config["dropout"]["gamma"]) == (0.5, 0.75)
    other = Composer("train").single(["experiment=toy", "model.prune_logits=false", "dropout=none"])
    assert identity(other) != identity(config)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["layers=[hiden.0]"], r"layers=\[hiden.0\]: layer 'hiden.0' is not in the model; did you mean 'hidden.0'\?"),
        (["layers=[hidden.1]"], r"layers=\[hidden.1\]: layer 'hidden.1' has no weight matrix"),
        (["layers=hidden.0"], r"layers=hidden.0: expected null or a list, \[a,b,…\], of names of layers"),
        (["layers=[]"], r"layers=\[\]: expected null or a list"),
        (["sparsity=1.5"], "sparsity=1.5: expected a number from 0 to 1"),
        (["split=dev"], "split=dev: expected train, validation, test"),
        (["members=some"], "members=some: expected auto or a whole number of at least 0"),
        (["probes=1"], "probes=1: expected null or a whole number of at least 2"),
        (["dtype=bf16"], "dtype=bf16: expected auto, float64, float32"),
        (["limit=0"], "limit=0: expected null or a whole number of at least 1"),
        (["layrs=[logits]"], "there is no option layrs; did you mean layers"),
    ],
)
def test_bad_options_are_named_and_nothing_is_written(words, said, trained):
    with pytest.raises(ConfigError, match=said) as raised:
        coadapt([str(trained / "none0")], words)
    assert "\n" not in str(raised.value)
    assert list(Path().iterdir()) == []


def test_folders_that_cannot_be_studied(trained, tmp_path):
    shutil.copytree(trained / "none0", "run")
    Run(Path("run")).write_status(state="running")
    with pytest.raises(ConfigError, match=r"run is not finished \(interrupted\); run train resumes it"):
        coadapt([str(trained / "none1"), "run"], [])
    Run(Path("run")).write_status(state="finished")
    config = Run(Path("run")).config()
    Run(Path("run")).unseal(Run(Path("run")).config_file)
    for change, said in (
        ({"data": {**config["data"], "validation": 0}}, "split=validation: run has train, test"),
        (
            {"task": {"name": "reconstruction", "_target_": "runner.tasks.reconstruction.Reconstruction"}},
            "run: run coadapt needs a run of task=classification",
        ),
    ):
        Run(Path("run")).config_file.write_text(yaml.safe_dump(config | change))
        with pytest.raises(ConfigError, match=said):
            coadapt(["run"], ["split=validation"])
    assert not Path("outputs").exists()
