"""run scree: finished runs at their first k features, with tables and figures."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from runner.cli import main
from runner.commands.scree import main as scree
from runner.errors import ConfigError
from runner.experiment import Experiment
from runner.files import read_rows
from runner.runs import Run

pytestmark = pytest.mark.usefixtures("undrawn")

COMMON = (
    "debug=smoke",
    "data=digits",
    "prune.granularity=feature",
    "prune.sparsities=[0,0.5,0.75]",
    "precision=float32",
)
DENSE = (*COMMON, "model=autoencoder", "model.code=8", "schedule.length=12it", "schedule.batch_size=64")
RUNS = {
    "tail": (*DENSE, "dropout=tail"),
    "tail1": (*DENSE, "dropout=tail", "seed=1"),
    "none": (*DENSE, "dropout=none"),
    "none1": (*DENSE, "dropout=none", "seed=1"),
    "plain": (*DENSE, "dropout=unit_dropout"),
    "code4": (*DENSE, "dropout=none", "model.code=4"),
    "code2tail": (*DENSE, "dropout=tail", "model.code=2"),
    "longer": (*DENSE, "dropout=none", "model.code=4", "schedule.length=13it"),
    "residual": (*COMMON, "model=resnet32_narrow", "model.blocks=1", "model.width=0.5", "dropout=tail"),
}
PICTURES = ["code.png", "curves.png", "directions.png", "reconstructions.gif", "reconstructions.png"]
TABLES = ["choices.csv", "table.csv", "table.md"]
OUT = Path("outputs/scree/digits-autoencoder-tail")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Create finished runs on first use, which tests must not change."""
    folder = tmp_path_factory.mktemp("runs")

    def run(name):
        if not (folder / name).exists():
            with pytest.raises(SystemExit) as ended:
                main(["train", *RUNS[name], f"folder={folder / name}"])
            assert ended.value.code == 0
        return str(folder / name)

    return run


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _table(out=OUT, **wanted):
    rows = pd.read_csv(out / "table.csv")
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    return rows.set_index("k")


def _pruned(folder, batch_norm="none"):
    """Return (sparsity, split) → row of pruning.csv."""
    rows = read_rows(Run(Path(folder)).pruning_file)
    return {(float(row["sparsity"]), row["split"]): row for row in rows if row["batch_norm"] == batch_norm}


def test_curves_agree_with_the_runs_own_sweeps(trained, tree, capsys):
    folders = [trained(name) for name in ("tail", "none", "code4", "plain")]
    before = tree(Path(folders[0]))
    assert scree(folders, []) == 0
    assert tree(Path(folders[0])) == before
    said = capsys.readouterr().out
    assert sorted(path.name for path in OUT.iterdir()) == sorted(PICTURES + TABLES)
    text = (OUT / "table.md").read_text()
    assert text in said
    assert "ranked by the norm of their filters: none, unit_dropout\n" in text
    assert set(said.splitlines()[-8:]) == {str(OUT / name) for name in PICTURES + TABLES}
    names = ["place", "metric", "split", "tail", "none", "unit_dropout", "exact", "PCA", "tail/exact", "tail/PCA"]
    for split in ("validation", "test"):
        rows = _table(split=split)
        assert sorted(rows.columns) == sorted(names)
        assert set(rows["place"]) == {"decoder.0"} and set(rows["metric"]) == {"mse"}
        assert rows.index.tolist() == list(range(1, 9))
        for folder, column in zip([folders[0], folders[1], folders[3]], ("tail", "none", "unit_dropout"), strict=True):
            assert rows[column].notna().all()
            for k, sparsity in ((8, 0.0), (4, 0.5), (2, 0.75)):
                assert rows[column][k] == pytest.approx(float(_pruned(folder)[sparsity, split]["mse"]), rel=1e-6)
        assert rows["exact"].dropna().index.tolist() == [4, 8]
        assert rows["exact"][4] == pytest.approx(float(_pruned(folders[2])[0.0, split]["mse"]), rel=1e-6)
        assert rows["exact"][8] == rows["none"][8]
        for column in ("exact", "PCA"):
            ratio = (rows["tail"] / rows[column]).dropna()
            assert rows[f"tail/{column}"].dropna().tolist() == pytest.approx(ratio.tolist(), rel=1e-6)
        assert (rows["PCA"].diff().dropna() < 0).all()


def test_pca_is_that_of_the_runs_own_images(trained):
    scree([trained("tail")], ["ks=[3]"])
    run = Run(Path(trained("tail")))
    data = Experiment.from_config({**run.config(), "device": "cpu"}).data
    train, test = (
        torch.cat([x for x, _ in data.eval_batches(split, limit)]).flatten(1).double().numpy()
        for split, limit in (("train", None), ("test", 200))
    )
    assert test.min() >= 0 and test.max() <= 1, "pixels as they are"
    kept = np.linalg.svd(train - train.mean(0), full_matrices=False)[2][:3]
    left = (test - train.mean(0)) - (test - train.mean(0)) @ kept.T @ kept
    assert _table(split="test")["PCA"][3] == pytest.approx(np.square(left).mean(), rel=1e-6)


def test_seeds_are_averaged_and_copies_left_out(trained, capsys):
    shutil.copytree(trained("tail"), "a copy")
    scree([trained("tail"), trained("tail1"), "a copy"], ["ks=[2]"])
    assert "left out: a copy (seed 0 again)" in capsys.readouterr().out
    values = [float(_pruned(trained(name))[0.75, "test"]["mse"]) for name in ("tail", "tail1")]
    assert values[0] != values[1]
    assert _table(split="test")["tail"][2] == pytest.approx(sum(values) / 2, rel=1e-6)


def test_a_second_seed_is_no_exact_width(trained):
    scree([trained("none"), trained("none1")], ["ks=[8]", "outputs=other"])
    rows = _table(Path("other/scree/digits-autoencoder-none"), split="test")
    values = [float(_pruned(trained(name))[0.0, "test"]["mse"]) for name in ("none", "none1")]
    assert rows["none"][8] == pytest.approx(sum(values) / 2, rel=1e-6)
    assert "exact" not in rows.columns
    assert not Path("outputs").exists(), "outputs= is where everything goes"


def test_the_first_folder_comes_first_whatever_it_is_called(trained):
    shutil.copytree(trained("tail"), "z")
    shutil.copytree(trained("tail"), "a")
    shutil.copytree(trained("none"), "n")
    scree(["z", "a", "n"], ["ks=[1]", "out=here"])
    assert "tail/PCA" in _table(Path("here")).columns
    scree(["n", "z"], ["ks=[1]"])
    assert "none/PCA" in _table(Path("outputs/scree/digits-autoencoder-none")).columns


def test_only_runs_that_are_otherwise_alike_are_exact_widths(trained):
    scree([trained(name) for name in ("tail", "code2tail", "longer")], ["ks=[2,4]"])
    rows = _table(split="test")
    assert rows["exact tail"].dropna().index.tolist() == [2]
    assert rows["exact tail"][2] == pytest.approx(float(_pruned(trained("code2tail"))[0.0, "test"]["mse"]), rel=1e-6)
    (other,) = [name for name in rows.columns if name.startswith("none")]
    assert rows[other].dropna().index.tolist() == [2, 4], "cut like any other network"
    assert "exact" not in rows.columns


def test_where_to_cut_is_chosen_on_validation(trained):
    scree([trained("tail"), trained("none")], ["tolerance=0.1"])
    chosen = pd.read_csv(OUT / "choices.csv").set_index("column")
    assert sorted(chosen.index) == ["PCA", "none", "tail"]
    for column, row in chosen.iterrows():
        curves = {split: _table(split=split)[column] for split in ("validation", "test")}
        validation = curves["validation"]
        fewest = validation[validation <= 1.1 * validation[8]].index.min()
        assert (row["n"], row["full"], row["fewest"]) == (8, 8, fewest)
        for name in ("full", "elbow", "fewest"):
            if not pd.isna(row[name]):
                assert row[f"{name}_test"] == pytest.approx(curves["test"][row[name]], rel=1e-6)
    assert (
        "fewest: the fewest features within 10 % of the validation score of all features"
        in (OUT / "table.md").read_text()
    )


def test_pictures_show_every_k_that_was_asked_for(trained, drawn):
    scree([trained("tail")], [])
    with Image.open(OUT / "reconstructions.gif") as movie:
        assert movie.n_frames == 8
        assert movie.info["loop"] == 0
        frames = []
        for index in range(8):
            movie.seek(index)
            frames.append(np.asarray(movie.convert("L")))
    # The originals stay, their reconstructions change, and the last frame is the network's actual output.
    edge = 24 + (len(frames[0]) - 24) // 2
    label, above, below = zip(*((f[:24], f[24:edge], f[edge:]) for f in frames), strict=True)
    for index in range(1, 8):
        assert not np.array_equal(label[index - 1], label[index])
        assert np.array_equal(above[0], above[index])
        assert not np.array_equal(below[index - 1], below[index])
    run = Run(Path(trained("tail")))
    parts = Experiment.from_config({**run.config(), "device": "cpu"})
    parts.load(run)
    images, labels = next(parts.data.eval_batches("test"))
    chosen = [int((labels == digit).nonzero()[0]) for digit in range(10)]
    with torch.no_grad():
        made = parts.model.eval()(images[chosen])
    for shown, expected in ((above[0], images[chosen]), (below[7], made)):
        # Each pixel of an image is drawn eight pixels wide and high, and the lines between images are as wide.
        pixels = shown[4::8, 4::8].reshape(9, 10, 9)[1:, :, 1:].transpose(1, 0, 2)
        np.testing.assert_allclose(pixels, 255 * expected[:, 0].clamp(0, 1).numpy(), atol=0.51)
    for name in PICTURES:
        with Image.open(OUT / name) as picture:
            assert min(picture.size) > 100
    scree([trained("tail")], ["ks=[1,5]"])
    with Image.open(OUT / "reconstructions.gif") as movie:
        assert movie.n_frames == 3


def test_the_same_call_gives_the_same_bytes(trained, tree, drawn):
    for out in ("one", "two"):
        scree([trained("tail"), trained("code4")], ["ks=[1,3]", "limit=50", f"out={out}"])
    assert tree(Path("one")) == tree(Path("two"))


def test_a_classifier_with_batch_norm_and_several_places(trained):
    folder = trained("residual")
    names = ["blocks.0.conv2", "blocks.1.conv2", "blocks.2.conv2"]
    for batch_norm in ("kept", "recalibrated"):
        scree([folder], [f"batch_norm={batch_norm}", "ks=[1,8,16]", f"out={batch_norm}"])
        out = Path(batch_norm)
        assert sorted(path.name for path in out.iterdir()) == sorted([*TABLES, "curves.png", "places.png"])
        rows = _table(out, split="test", metric="accuracy")
        assert sorted(rows["place"].unique()) == [*["all"], *names]
        assert rows[rows["place"] == names[0]].index.tolist() == [1, 8]
        assert rows[rows["place"] == names[2]].index.tolist() == [1, 8, 16, 32]
        together = rows[rows["place"] == "all"]
        assert together.index.tolist() == [3, 14, 28, 56]
        for metric in ("accuracy", "loss"):
            values = _table(out, split="test", metric=metric, place="all")["tail"]
            for k, sparsity in ((56, 0.0), (28, 0.5), (14, 0.75)):
                own = _pruned(folder, batch_norm)[sparsity, "test"]
                assert values[k] == pytest.approx(float(own[metric]), rel=1e-5)
    assert "PCA" not in rows.columns
    assert "within 1 percentage point of" in (out / "table.md").read_text()


def test_named_places_are_cut_and_no_others(trained):
    scree([trained("residual")], ["places=[blocks.1.conv2]", "out=here"])
    rows = _table(Path("here"))
    assert set(rows["place"]) == {"blocks.1.conv2"}
    assert sorted(set(rows.index)) == list(range(1, 17))
    assert not Path("here/places.png").exists()


def test_a_run_without_images_for_validation_chooses_nothing(trained):
    shutil.copytree(trained("tail"), "run")
    config = Run(Path("run")).config()
    config["data"]["validation"] = 0
    Run(Path("run")).unseal(Run(Path("run")).config_file)
    Run(Path("run")).config_file.write_text(yaml.safe_dump(config))
    scree(["run"], ["ks=[2]"])
    assert set(_table()["split"]) == {"test"}
    assert len(pd.read_csv(OUT / "choices.csv")) == 0
    assert "no elbow or fewest features" in (OUT / "table.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ks=[0]"], r"ks=\[0\]: expected null or a list"),
        (["ks=[9]"], r"ks=\[9\]: expected 1 to 8, the number of features of the widest place"),
        (["ks=3"], "ks=3: expected null or a list"),
        (["tolerance=-0.1"], "tolerance=-0.1: expected a number from 0 to 1"),
        (["batch_norm=none"], "batch_norm=none: expected kept, recalibrated"),
        (["places=[encoder.0]"], "places=encoder.0: expected all, decoder.0"),
        (["places=[]"], r"places=\[\]: expected null or a list"),
        (["limit=0"], "limit=0: expected null or a whole number of at least 1"),
        (["tolerence=0.1"], "there is no option tolerence; did you mean tolerance"),
    ],
)
def test_bad_options_are_named_and_nothing_is_written(words, said, trained):
    with pytest.raises(ConfigError, match=said) as raised:
        scree([trained("tail")], words)
    assert "\n" not in str(raised.value)
    assert list(Path().iterdir()) == []


def test_runs_that_cannot_stand_beside_each_other(trained):
    with pytest.raises(ConfigError, match=r"residual has task=classification, .*tail has reconstruction"):
        scree([trained("tail"), trained("residual")], [])
    both = Path("both")
    for name in ("tail", "none"):
        shutil.copytree(trained(name), both / name)
    with pytest.raises(ConfigError, match="both holds runs that differ in more than their seed; name one of them"):
        scree(["both"], [])
    Run(both / "none").write_status(state="running")
    with pytest.raises(ConfigError, match=r"none is not finished \(interrupted\)"):
        scree([str(both / "tail"), str(both / "none")], [])
    assert not Path("outputs").exists()


def test_a_network_without_places_is_named(trained, monkeypatch):
    monkeypatch.setattr("runner.pruning.granularities.feature.feature_places", lambda model: ())
    with pytest.raises(ConfigError, match="tail: Autoencoder declares no feature places, which run scree needs"):
        scree([trained("tail")], [])


def test_directions_stand_beside_features(trained):
    assert scree([trained("tail"), trained("code4")], ["low_rank=true", "ks=[2,4,8]"]) == 0
    table = _table(split="test", place="decoder.0", metric="mse")
    names = ["tail, PCA of activations", "tail, SVD of weights"]
    for name in names:
        assert table.loc[8, name] == pytest.approx(table.loc[8, "tail"], rel=1e-5)
        assert table.loc[2, name] != table.loc[2, "tail"]
    assert not any("exact," in name for name in table.columns)
