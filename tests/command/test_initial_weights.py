"""init=: training from stored weights."""

import pickle

import pytest
import torch
from safetensors.torch import load_file

from runner.config.compose import Composer
from runner.running import run_of
from runner.training.loop import Training

SMALL = ("model=mlp", "model.widths=[8]", "debug=smoke", "prune.sparsities=[0]", "prune.splits=[test]")


@pytest.fixture
def start(monkeypatch):
    """Return the weights at the first step of a training."""
    found, one_step = [], Training.one_step

    def spy(self):
        if self.step == 0:
            found.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})
        return one_step(self)

    monkeypatch.setattr(Training, "one_step", spy)
    return found


@pytest.fixture
def trained(call, tmp_path):
    assert call("train", *SMALL, "folder=first").code == 0
    return load_file(tmp_path / "first" / "weights.safetensors")


def test_from_a_run_a_safetensors_file_and_a_state_dict(call, trained, start, tmp_path):
    torch.save(trained, tmp_path / "weights.pt")
    for number, place in enumerate(("first", "first/weights.safetensors", "weights.pt")):
        result = call("train", *SMALL, f"init={place}", "seed=3", f"folder=second{number}")
        assert result.code == 0, result.err
        assert all(torch.equal(start[-1][name], tensor) for name, tensor in trained.items())
        assert call("prune", f"second{number}", "prune.sparsities=[0.5]").code == 0


def test_the_content_belongs_to_the_identity(trained, tmp_path):
    config = Composer("train").single([*SMALL, "init=weights.pt"])
    hashes = set()
    for factor in (1, 2, 1):
        torch.save({name: factor * tensor for name, tensor in trained.items()}, tmp_path / "weights.pt")
        hashes.add(run_of(config)[2].hash)
    assert len(hashes) == 2
    assert run_of({**config, "init": None})[2].hash not in hashes


class Trap:
    def __reduce__(self):
        return (open, ("trapped", "w"))


def test_what_cannot_be_used_is_one_line_and_nothing_is_written(call, trained, tmp_path):
    torch.save({"hidden.0.weight": torch.zeros(2, 2), "other": torch.zeros(1)}, tmp_path / "other.pt")
    (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap()))
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    (tmp_path / "short.safetensors").write_bytes((tmp_path / "first" / "weights.safetensors").read_bytes()[:50])
    (tmp_path / "empty").mkdir()
    for place, said in (
        ("other.pt", "of another model: the file lacks "),
        ("other.pt", "has a different shape of hidden.0.weight"),
        ("trap.pt", "not a file of tensors"),
        ("module.pt", "not a file of tensors"),
        ("short.safetensors", "not a file of tensors"),
        ("nothing.pt", "init=nothing.pt: no such file or folder"),
        ("empty", "init=empty: no trained run"),
    ):
        result = call("train", *SMALL, f"init={place}", "folder=second")
        assert result.code == 2, place
        assert said in result.err
        assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "second").exists()
    assert not (tmp_path / "trapped").exists()
