"""A user's own nn.Module in a file, from inspection to export, and protection against untrusted run folders."""

import sys

import pytest

from runner.api import load_compact
from runner.config import trust
from runner.errors import UserError
from runner.files import read_rows
from runner.runs import Run

NET = """
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, channels, classes, image_size=8, width=8):
        super().__init__()
        self.logits = nn.Linear(width, classes)  # registered first, computed last
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.inner = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.outer = nn.Conv2d(2 * width, width, 1)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        return self.logits((x + self.outer(F.relu(self.inner(x)))).mean((2, 3)))
"""
NAMED = "model.architecture=users_file:Net"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Create a folder with a class, and the YAML of a model that names it."""
    forget(monkeypatch)
    folder = tmp_path / "own"
    (folder / "model").mkdir(parents=True)
    (folder / "users_file.py").write_text(NET)
    (folder / "model" / "users.yaml").write_text("# of a user's own\n_target_: users_file.Net\nwidth: 8\n")
    yield folder
    sys.modules.pop("users_file", None)


def forget(monkeypatch):
    """Restore the state of a new process: nothing is imported, nothing trusted."""
    monkeypatch.setattr(trust, "_named", set())
    monkeypatch.setattr(trust, "_folders", set())
    monkeypatch.delitem(sys.modules, "users_file", raising=False)


def test_a_class_that_is_named_trains_and_a_stored_one_must_be_named_again(call, own, tiny, tmp_path, monkeypatch):
    (own / "users_file.py").rename(tmp_path / "users_file.py")
    words = ("train", *tiny[:1], *tiny[2:], "model=module", NAMED, "model.arguments={width: 12}", "outputs=out")
    result = call(*words)
    assert result.code == 0, result.err
    run = Run(tmp_path / result.out.splitlines()[-1])
    assert run.folder.parent.name.startswith("digits-Net-none-")
    assert run.config()["model"]["arguments"] == {"width": 12}
    forget(monkeypatch)
    refused = call("prune", str(run.folder), "prune.sparsities=[0.25]")
    assert refused.code == 2
    assert "model.architecture=users_file:Net: a user-defined class, whose code would be run" in refused.err
    assert "users_file" not in sys.modules
    assert call("prune", str(run.folder), "prune.sparsities=[0.25]", NAMED).code == 0
    forget(monkeypatch)
    (tmp_path / "users_file.py").rename(own / "users_file.py")
    assert call("prune", str(run.folder), "prune.sparsities=[0.75]", "--config-dir", str(own)).code == 0


def test_weights_count_by_their_content(call, own, tiny, tmp_path):
    import torch
    from safetensors.torch import save_file

    (own / "users_file.py").rename(tmp_path / "users_file.py")
    words = ("train", *tiny[:1], *tiny[2:], "model=module", NAMED, "outputs=out")
    first = call(*words)
    weights = Run(tmp_path / first.out.splitlines()[-1]).weights_file
    names = []
    for name, place in (("a", weights), ("b", weights), ("c", None)):
        file = tmp_path / f"{name}.safetensors"
        if place:
            file.write_bytes(place.read_bytes())
        else:
            save_file({"x": torch.zeros(1)}, file)
        result = call(*words, f"model.weights={file}")
        if name == "c":
            assert result.code == 2
            assert (
                "c.safetensors: weights of another model: the file lacks logits.weight, logits.bias, stem.weight, …; "
                in result.err
            )
        else:
            names.append(result.out.splitlines()[-1])
    assert names[0] == names[1] != first.out.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["module", "users"])
def test_trains_prunes_compacts_evaluates_and_exports(chosen, call, own, tiny, tmp_path, monkeypatch):
    """Named directly, and through a YAML in the --config-dir."""
    if chosen == "module":
        (own / "users_file.py").rename(tmp_path / "users_file.py")
        words, again = ("model=module", NAMED), (NAMED,)
    else:
        words = again = ("--config-dir", "own")
        words = ("model=users", *words)
    sweep = ("dropout=targeted_unit", "prune.granularity=unit", "folder=run", "limit=20")
    shape = ("channels=1", "image_size=8", "sparsity=0.75")
    untrained = call("inspect", *words, *shape)
    assert untrained.code == 0, untrained.err
    assert call("train", *tiny[:1], *tiny[2:], *words, *sweep).code == 0
    assert call("inspect", "run", "sparsity=0.75", "out=layers.csv", *again).code == 0
    assert [row["layer"] for row in read_rows(tmp_path / "layers.csv")] == ["stem", "inner", "outer", "logits"]
    assert call("prune", "run", "prune.sparsities=[0.75]", *again).code == 0
    quick = ("batches=[1]", "rounds=6", "onnxruntime=false")
    result = call("compact", "run", "sparsity=0.75", "granularity=unit", *quick, *again)
    assert result.code == 0, result.err
    forget(monkeypatch)
    compact = "run/compact/unit-0.75"
    refused = call("evaluate", compact)
    assert refused.code == 2
    assert "users_file" in refused.err and "users_file" not in sys.modules
    assert call("evaluate", compact, *again).code == 0
    if chosen == "users":
        return
    result = call("export", compact, *again)
    assert result.code == 0, result.err
    assert len(list(Run(tmp_path / "run").folder.glob("export/*.pt2"))) == 1
    forget(monkeypatch)
    with pytest.raises(UserError, match=r"users_file:Net: a user-defined class"):
        load_compact(compact)
    assert load_compact(compact, trusted=NAMED.partition("=")[2]).inner.out_channels < 16


def test_its_features_are_cut_at_any_width_from_one_file(call, own, tiny, tmp_path):
    """Its places are found by tracing, for the run and for the file."""
    (own / "users_file.py").rename(tmp_path / "users_file.py")
    words = ("train", *tiny[:1], *tiny[2:], "model=module", NAMED, "dropout=tail", "folder=run")
    assert call(*words).code == 0
    result = call("compact", "run", "widths=[0.5]", NAMED, "rounds=6", "turn=0", "batches=[1]", "onnxruntime=false")
    assert result.code == 0, result.err
    small = load_compact("run/compact/elastic", trusted="users_file:Net", width=0.25)
    assert small.outer.in_channels == 4
