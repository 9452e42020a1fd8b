"""run compact: from a finished run to a folder with a smaller network, its proof and its certificate."""

import functools
import shutil
import subprocess
import sys

import pytest
import torch

import runner
from runner.cli import main
from runner.compaction import run as compaction
from runner.compaction.certificate import COLUMNS
from runner.errors import UserError
from runner.files import read_rows

QUICK = ("batches=[1,40]", "rounds=6", "turn=0", "onnxruntime=false")
FRESH = """
import sys, torch, runner
network = runner.load_compact(sys.argv[1])
torch.manual_seed(0)
print(network(torch.randn(4, 1, int(sys.argv[2]), int(sys.argv[2]))).double().sum().item())
"""


@pytest.fixture(scope="module")
def tail(tmp_path_factory):
    """A finished run of tail dropout, which tests must not change."""
    folder = tmp_path_factory.mktemp("tail") / "run"
    with pytest.raises(SystemExit) as ended:
        main(["train", "debug=smoke", "model=mlp", "dropout=tail", "prune.splits=[test]", f"folder={folder}"])
    assert ended.value.code == 0
    return folder


@pytest.mark.parametrize(
    ("granularity", "files"),
    [
        ("unit", ["architecture.json", "model.safetensors"]),
        ("weight", ["packed.safetensors"]),
    ],
)
def test_a_smaller_network_with_its_certificate(call, finished, granularity, files, tree):
    before = tree(finished.folder)
    result = call("compact", str(finished.folder), "sparsity=0.9", f"granularity={granularity}", "layers=true", *QUICK)
    assert result.code == 0, result.err
    folder = finished.compact_folder(granularity, 0.9)
    assert result.out.splitlines()[-1] == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(["certificate.csv", "certificate.md", *files])
    assert (folder / "certificate.md").read_text() in result.out
    assert "as calculated" in result.out
    if granularity == "unit" or shutil.which("cc"):
        assert result.out.count("Layer by layer:") == 2, "at both batches"
    after = tree(finished.folder)
    assert {name: after[name] for name in before} == before, "nothing else of the run changes"

    rows = read_rows(folder / "certificate.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert {row["batch"] for row in rows if row["network"] == "dense"} == {"1", "40"}
    by_network = {row["network"]: row for row in rows}
    dense, compact = by_network["dense"], by_network["compact"]
    assert int(compact["bytes"]) == sum((folder / name).stat().st_size for name in files)
    assert int(compact["bytes"]) < int(dense["bytes"])
    assert int(compact["flops"]) < int(dense["flops"])
    assert int(compact["nonzero"]) < int(dense["nonzero"])
    if compact["way"]:  # without a compiler, packed networks cannot be executed
        assert float(compact["ideal_speedup"]) == pytest.approx(int(dense["flops"]) / int(compact["flops"]))

    again = call("compact", str(finished.folder), "sparsity=0.9", f"granularity={granularity}", *QUICK)
    assert again.code == 0
    assert tree(finished.folder) == after, "made once"


def test_less_than_the_dropout_targeted_where_the_floor_is_given(call, finished):
    file = finished.compact_folder("weight", 0.5) / "packed.safetensors"
    sparsities = []
    for floor in ("auto", "0"):
        words = ("sparsity=0.5", "granularity=weight", f"floor={floor}", "force=true", "batches=[1]", *QUICK[1:])
        assert call("compact", str(finished.folder), *words).code == 0
        weight = next(p for p in runner.load_compact(file).parameters() if p.dim() == 4 and (p == 0).any())
        sparsities.append(float((weight == 0).float().mean()))
    assert sparsities == pytest.approx([0.75, 0.5], abs=0.05)


def test_batch_norm_is_folded_unless_asked_otherwise(call, finished):
    words = ("sparsity=0.5", "granularity=unit", *QUICK)
    folder = finished.compact_folder("unit", 0.5)
    whole = sum(isinstance(m, torch.nn.BatchNorm2d) for m in runner.load(finished.folder).model().modules())
    for word, folded in (("fold=true", True), ("fold=false", False)):
        result = call("compact", str(finished.folder), word, "force=true", *words)
        assert result.code == 0, result.err
        norms = sum(isinstance(m, torch.nn.BatchNorm2d) for m in runner.load_compact(folder).modules())
        assert (norms < whole) == folded
        ways = {(row["network"], row["way"]) for row in read_rows(folder / "certificate.csv")}
        assert ("dense", "eager, NCHW, BatchNorm folded, 32 at a time") in ways
        assert (("compact", "eager, NCHW, BatchNorm folded") in ways) != folded


def test_features_are_cut_and_a_fresh_process_needs_the_folder_alone(call, tail, tmp_path):
    result = call("compact", str(tail), "sparsity=0.5", *QUICK)
    assert result.code == 0, result.err
    folder = tail / "compact" / "feature-0.5"
    network = runner.load_compact(folder)
    whole = runner.load(tail).model()
    assert sum(p.numel() for p in network.parameters()) < sum(p.numel() for p in whole.parameters())
    assert not network.training
    data = runner.load(tail).data
    moved = folder.rename(tmp_path / "elsewhere")
    size = str(data.model_arguments()["image_size"])
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(moved), size], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    torch.manual_seed(0)
    expected = network(torch.randn(4, 1, int(size), int(size))).double().sum().item()
    assert float(done.stdout) == pytest.approx(expected, rel=1e-5)


def test_packed_it_is_the_network_of_the_sweep_bit_for_bit(call, finished):
    words = ("sparsity=0.5", "granularity=weight", "batch_norm=kept", *QUICK)
    assert call("compact", str(finished.folder), *words).code == 0
    file = finished.compact_folder("weight", 0.5) / "packed.safetensors"
    network = runner.load_compact(file)
    pruned = runner.load(finished.folder).model(sparsity=0.75)  # the floor
    expected = pruned.state_dict()
    for name, value in network.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(value, expected[name]), name


def test_a_shortcut_with_a_stride_is_executed_sparsely(call, finished):
    if shutil.which("cc") is None:
        pytest.skip("there is no compiler")
    result = call("compact", str(finished.folder), "sparsity=0.9", "granularity=weight", *QUICK)
    assert "| sparse kernels |" in result.out.replace("  ", "")
    assert "not possible" not in result.out


def test_what_the_proof_refuses_is_not_kept(call, finished, monkeypatch, tree):
    before = tree(finished.folder)
    load = compaction.load_compact

    def changed(path):
        network = load(path)
        with torch.no_grad():
            next(iter(network.parameters())).mul_(1.01)
        return network

    monkeypatch.setattr(compaction, "load_compact", changed)
    result = call("compact", str(finished.folder), "sparsity=0.9", "granularity=unit", *QUICK)
    assert result.code == 1
    assert "outputs differ by" in result.err
    assert len(result.err.splitlines()) == 1
    assert tree(finished.folder) == before
    assert not (finished.folder / "compact").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "sparsity must be given: sparsity=0.9"),
        (["sparsity=1"], "sparsity=1: expected a number from 0 to below 1"),
        (["sparsity=-0.1"], "sparsity=-0.1: expected a number from 0 to below 1"),
        (["sparsity=0.5", "granularity=filter"], "granularity=filter: unknown"),
        (["sparsity=0.5", "granularity=feature"], "granularity=feature: "),
        (["sparsity=0.5", "criterion=best"], "criterion=best: unknown"),
        (["sparsity=0.5", "removal=none"], "removal=none: expected clean, exact"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(call, finished, tree, monkeypatch, words, expected):
    if "granularity=feature" in words:  # as for a network without feature places
        from runner.models.resnet import PreActResNet

        build = PreActResNet.__init__

        def without_places(self, *args, **kwargs):
            build(self, *args, **kwargs)
            self.feature_places = []

        monkeypatch.setattr(PreActResNet, "__init__", functools.wraps(build)(without_places))
    before = tree(finished.folder)
    result = call("compact", str(finished.folder), *words)
    assert result.code == 2
    assert expected in result.err
    assert len(result.err.splitlines()) == 1
    assert tree(finished.folder) == before


def test_a_run_that_is_not_finished(call, finished):
    finished.write_status(state="failed")
    result = call("compact", str(finished.folder), "sparsity=0.5")
    assert result.code == 2
    assert "is not finished (failed)" in result.err


def test_a_truncated_packed_file_is_one_line(call, finished):
    assert call("compact", str(finished.folder), "sparsity=0.9", "granularity=weight", *QUICK).code == 0
    file = finished.compact_folder("weight", 0.9) / "packed.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="is not a packed file, or is damaged"):
        runner.load_compact(file.parent)


@pytest.mark.slow
def test_one_file_for_every_width(call, tail, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tail, folder)
    result = call("compact", str(folder), "widths=[0.5]", *QUICK)
    assert result.code == 0, result.err
    made = folder / "compact" / "elastic"
    names = ["elastic.safetensors", "widths.csv", "widths.md", "widths.png"]
    assert sorted(path.name for path in made.iterdir()) == names
    rows = read_rows(made / "widths.csv")
    assert [float(row["width"]) for row in rows] == [0.5, 1.0], "the whole network always"
    assert int(rows[0]["parameters"]) < int(rows[1]["parameters"]) and int(rows[0]["flops"]) < int(rows[1]["flops"])
    assert all(float(row["largest_difference"]) < 1e-5 for row in rows)
    assert (made / "widths.md").read_text() in result.out
    assert "force=true makes it again" in call("compact", str(folder), "widths=[1,0.5]", *QUICK).out

    narrow = runner.load_compact(made, width=0.37)
    assert sum(p.numel() for p in narrow.parameters()) < int(rows[0]["parameters"])
    result = call("evaluate", str(made), "width=0.37", "device=cpu")
    assert "compact elastic, 37 % of the features" in result.out, result.err
    result = call("export", str(made), "width=0.37")
    assert result.code == 0 and (folder / "export" / "compact-elastic-0.37.pt2").is_file(), result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["widths=[0,1]"], "widths=[0,1]: expected a list of a number above 0, at most 1"),
        (["widths=[0.5]", "sparsity=0.5"], "sparsity=0.5 can't be combined with widths="),
        (["widths=[0.5]", "granularity=unit"], "granularity=unit: widths= apply to features; expected feature"),
    ],
)
def test_widths_that_are_not_allowed(call, tail, tree, words, message):
    before = tree(tail)
    result = call("compact", str(tail), *words, *QUICK)
    assert result.code == 2 and message in result.err
    assert tree(tail) == before


def test_a_run_has_one_width(call, tail):
    result = call("evaluate", str(tail), "width=0.5")
    assert result.code == 2 and "width=0.5" in result.err and "has one width only" in result.err
