"""run reproduce: cells, runs shared between tables, and the comparison with the published numbers."""

import re

import pandas as pd
import pytest

from runner.cli import main
from runner.config.compose import Composer, options
from runner.reporting.published import published_heads
from runner.reporting.reproduction import Plan
from runner.runs import find_runs

pytestmark = pytest.mark.usefixtures("undrawn")

TINY = ["setup=own", "debug=smoke", "model=mlp", "schedule.length=2it", "precision=float32"]
TABLES = [name for name in options("table") if name.startswith("paper")]


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", *words])
    return stop.value.code


def plan(name):
    return Plan.of(Composer("reproduce").single([f"table={name}"])["table"])


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_all_published_columns_and_composes(name):
    made = plan(name)
    heads = {head for file in made.files.values() for head in published_heads(file)}
    assert {cell.head for cell in made.cells} == heads
    assert set(made.doubtful) <= {cell.head for cell in made.cells}
    composer = Composer("train")
    for cell in made.cells:
        (job,), _ = composer.jobs([*made.base, *cell.overrides, "data.root=x"])
        for option in cell.overrides:
            key, _, value = option.partition("=")
            if key == "dropout.gamma":
                assert job["dropout"]["gamma"] == float(value)


def test_the_unit_columns_dropped_as_the_official_code_does_differ_in_that_alone():
    whole = {cell.head: cell for cell in plan("paper2_unit").cells}
    for cell in plan("element_unit").cells:
        assert "dropout.element=true" in cell.overrides
        assert [text for text in cell.overrides if text != "dropout.element=true"] == list(whole[cell.head].overrides)
        assert cell.sparsities == whole[cell.head].sparsities


def test_the_papers_setup_is_the_official_codes():
    made = plan("paper2_weight")
    (job,), _ = Composer("train").jobs([*made.base, "data.root=x"])
    assert (job["data"]["name"], job["model"]["name"], job["schedule"]["length"]) == ("cifar10", "resnet32", "100000it")
    assert (job["data"]["normalize"], job["model"]["batch_norm_momentum"]) == ("image", 0.003)


@pytest.mark.slow
def test_trains_what_is_missing_and_sets_it_beside_the_paper(tmp_path, capsys, drawn):
    words = ["table=paper7_resnet32_weight", *TINY, f"outputs={tmp_path}", "seed=0,1"]
    assert run(*words, "--estimate") == 0
    estimate = capsys.readouterr().out
    assert "16 runs, 16 of them missing" in estimate
    assert re.search(r"\nabout [1-9]\d* (s|min \d\d s) one after another", estimate)
    assert not list(tmp_path.iterdir())

    assert run(*words) == 0
    printed = capsys.readouterr().out
    folder = tmp_path / "table" / "paper7_resnet32_weight"
    assert (folder / "table.md").read_text() in printed
    rows = pd.read_csv(folder / "table.csv")
    assert len(rows) == 8  # an MLP has no BatchNorm, so there is one row per cell
    assert (rows["n"] == 2).all()
    cell = rows[(rows["head"] == "Ramping TD") & (rows["sparsity"] == 0.99)].iloc[0]
    assert cell["paper"] == pytest.approx(0.888)
    assert cell["difference"] == pytest.approx(cell["mean"] - 0.888)
    found = [r for r in find_runs([tmp_path]) if r.config()["dropout"]["name"] == "ramping"]
    accuracies = []
    for one in (r for r in found if r.config()["dropout"]["gamma"] == 0.99):
        points = pd.read_csv(one.pruning_file)
        accuracies += points[(points["split"] == "test") & (points["sparsity"] == 0.99)]["accuracy"].tolist()
    assert cell["mean"] == pytest.approx(sum(accuracies) / 2)

    # Rows of another sweep of the same run with another floor are not mixed in.
    with pytest.raises(SystemExit):
        main(["prune", str(found[0].folder), "prune.floor=0", "prune.sparsities=[0.5,0.99]"])
    assert run(*words) == 0
    assert pd.read_csv(folder / "table.csv").equals(rows)
    capsys.readouterr()

    started = {r.folder: r.status()["started"] for r in find_runs([tmp_path])}
    assert run(*words) == 0
    assert {r.folder: r.status()["started"] for r in find_runs([tmp_path])} == started
    capsys.readouterr()
    # The ramping run at 99 % is also part of Table 6: it is swept on that grid, not trained again.
    assert run("table=paper6_weight_right", *TINY, f"outputs={tmp_path}", "seed=0,1", "--estimate") == 0
    assert "2 runs, 0 of them missing" in capsys.readouterr().out


def test_doubtful_columns_are_marked(tmp_path, capsys):
    assert run("table=paper6_weight_middle", *TINY, f"outputs={tmp_path}") == 0
    printed = capsys.readouterr().out
    assert "smallify l=0.00001 †" in printed
    assert "paste error" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "table=NAME is required"),
        (["table=summary"], "table=summary: expected a published table"),
        (["table=paper2_unit", "jobs=0"], "jobs=0: expected a whole number of at least 1"),
        (["table=paper2_unit", "setup=mine"], "setup=mine: expected paper, own"),
        (["table=paper2_unit", "seeds=0"], "there is no option seeds; did you mean seed?"),
        (
            ["table=paper2_unit", "table.sparsities=[0,0.5]"],
            "table.sparsities=[0,0.5]: table.sparsities is an option of run table",
        ),
        (["table=paper2_unit", "table.runs.data=digits"], "table.runs.data=digits: "),
        (["table=paper2_unit", "schedule.length=3"], "schedule.length=3: expected"),
        (["somewhere"], "'somewhere' is not understood"),
    ],
)
def test_bad_input(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
