"""run evaluate: the metrics of a finished run's network, whole, pruned or compact."""

import importlib
import shutil

import pytest

from runner.compaction.saving import save_compact
from runner.compaction.structure import Structure
from runner.files import read_rows


def cells(out: str) -> list[dict[str, str]]:
    """Return the cells of the printed table, by row."""
    lines = [line for line in out.splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in body]


@pytest.fixture
def compact(finished):
    """Store the whole network in a folder like that of a compact one."""
    import runner

    result = runner.load(finished.folder)
    folder = finished.folder / "compact" / "unit-0.5"
    config = result.config["model"]
    arguments = {key: value for key, value in config.items() if key not in ("name", "_target_", "input_size")}
    module, _, name = config["_target_"].rpartition(".")
    built = getattr(importlib.import_module(module), name)
    save_compact(
        folder,
        result.model(),
        Structure(),
        f"{built.__module__}.{built.__name__}",
        {**arguments, **result.data.model_arguments()},
    )
    return folder


def test_measures_what_the_sweep_measured_and_writes_nothing(call, finished, tree):
    before = tree(finished.folder)
    swept = {row["sparsity"]: row for row in read_rows(finished.pruning_file) if float(row["floor"]) > 0}
    result = call("evaluate", str(finished.folder), "sparsity=0.5")
    assert result.code == 0, result.err
    (row,) = cells(result.out)
    assert row["test accuracy (%)"] == f"{100 * float(swept['0.5']['accuracy']):.2f}"
    assert row["test loss"] == f"{float(swept['0.5']['loss']):#.4g}"
    assert tree(finished.folder) == before


def test_whole_and_below_the_floor(call, finished):
    (unpruned,) = [row for row in read_rows(finished.pruning_file) if float(row["floor"]) == 0]
    (whole,) = cells(call("evaluate", str(finished.folder)).out)
    assert whole["pruned"] == "whole"
    assert whole["test loss"] == f"{float(unpruned['loss']):#.4g}"
    (floored,) = cells(call("evaluate", str(finished.folder), "sparsity=0.5").out)
    (free,) = cells(call("evaluate", str(finished.folder), "sparsity=0.5", "floor=0").out)
    assert floored["pruned"] == "weights 75 % (the floor; requested 50 %)"
    assert free["pruned"] == "weights 50 %"
    counts = [int(row["non-zero parameters"].replace(",", "")) for row in (whole, free, floored)]
    assert counts == sorted(counts, reverse=True) and len(set(counts)) == 3


def test_several_networks_splits_and_statistics(call, finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "runs" / "a")
    shutil.copytree(finished.folder, tmp_path / "runs" / "b")
    result = call("evaluate", "runs", "split=validation", "limit=50", "granularity=unit", "sparsity=0.9", "floor=0")
    assert [row["network"] for row in cells(result.out)] == ["runs/a", "runs/b"]
    assert {row["examples"] for row in cells(result.out)} == {"50"}
    assert "validation accuracy (%)" in cells(result.out)[0]
    again = call("evaluate", "runs/a", "split=validation", "limit=50", "batch_norm=recalibrated")
    assert cells(again.out)[0]["pruned"] == "whole, recalibrated"


def test_predictions(call, finished, tmp_path):
    result = call("evaluate", str(finished.folder), "predictions=new/predicted.csv")
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == "new/predicted.csv"
    rows = read_rows(tmp_path / "new" / "predicted.csv")
    (row,) = cells(result.out)
    assert [r["index"] for r in rows] == [str(i) for i in range(int(row["examples"]))]
    right = sum(r["label"] == r["predicted"] for r in rows)
    assert f"{100 * right / len(rows):.2f}" == row["test accuracy (%)"]


def test_reconstruction_has_no_predictions(call):
    assert call("train", "debug=smoke", "model=autoencoder", "prune.sparsities=[0]", "folder=auto").code == 0
    result = call("evaluate", "auto", "sparsity=0.5", "granularity=unit")
    assert result.code == 0, result.err
    assert "test mean squared error" in cells(result.out)[0]
    result = call("evaluate", "auto", "predictions=p.csv")
    assert (result.code, result.out) == (2, "")
    assert "expected a run of task=classification, not task=reconstruction" in result.err


def test_compact_networks(call, finished, compact, tmp_path):
    (whole,) = cells(call("evaluate", str(finished.folder)).out)
    result = call("evaluate", str(compact))
    assert result.code == 0, result.err
    (row,) = cells(result.out)
    assert (row["network"], row["pruned"]) == (str(compact), "compact unit-0.5")
    assert row["test accuracy (%)"] == whole["test accuracy (%)"]

    shutil.copytree(compact, tmp_path / "elsewhere")
    for folder, words, said in (
        (str(compact), ["sparsity=0.5"], "sparsity=0.5: "),
        ("elsewhere", [], "elsewhere is not in a run folder"),
    ):
        result = call("evaluate", folder, *words)
        assert (result.code, result.out) == (2, "")
        assert said in result.err
    (compact / "architecture.json").unlink()
    result = call("evaluate", str(compact))
    assert (result.code, result.out) == (2, "")
    assert "architecture.json" in result.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sparsity=1"], "sparsity=1: expected a number from 0 to below 1"),
        (["split=dev"], "split=dev: expected train, validation, test"),
        (["granularity=filter"], "granularity=filter: unknown"),
        (["criterion=nothing"], "criterion=nothing: unknown"),
        (["batch_norm=none"], "batch_norm=none: expected kept, recalibrated"),
        (["floor=2"], "floor=2: expected auto or a number"),
        (["prune.floor=0"], "prune.floor=0: there is no option"),
    ],
)
def test_bad_options(words, expected, call, finished, tree):
    before = tree(finished.folder)
    result = call("evaluate", str(finished.folder), *words)
    assert (result.code, result.out) == (2, "")
    assert expected in result.err
    assert len(result.err.splitlines()) == 1
    assert tree(finished.folder) == before


def test_folders_that_are_no_finished_run(call, finished):
    for folder, said in (([], "run evaluate needs a run folder"), (["nowhere"], "nowhere is not a folder")):
        result = call("evaluate", *folder)
        assert (result.code, result.out) == (2, "")
        assert said in result.err
    finished.write_status(state="failed")
    assert "is not finished (failed)" in call("evaluate", str(finished.folder)).err
