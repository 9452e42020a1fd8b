"""A user's own arrays and a matching network, from training to a compact network and a table."""

import sys
from pathlib import Path

import numpy as np
import pytest

from runner.config import trust
from runner.files import read_rows
from runner.runs import Run
from tests.command.conftest import Call

NET = """
import torch.nn.functional as F
from torch import nn


class Wave(nn.Module):
    def __init__(self, input_shape, classes):
        super().__init__()
        self.stem = nn.Conv1d(1, 6, 3, padding=1)
        self.inner = nn.Conv1d(6, 8, 3, padding=1)
        self.logits = nn.Linear(8 * input_shape[0], classes)

    def forward(self, x):
        return self.logits(F.relu(self.inner(F.relu(self.stem(x[:, None])))).flatten(1))
"""
SMALL = (
    "schedule.length=4it",
    "schedule.batch_size=8",
    "prune.sparsities=[0.5]",
    "prune.granularity=[unit]",
    "prune.splits=[test]",
    "prune.batch_norm=[kept]",
)


@pytest.fixture
def waves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(trust, "_named", set())
    monkeypatch.delitem(sys.modules, "waves_net", raising=False)
    (tmp_path / "waves_net.py").write_text(NET)
    labels = np.arange(60) % 3
    inputs = np.random.default_rng(0).standard_normal((60, 12)) + np.repeat(np.eye(3)[labels], 4, 1)
    np.savez(tmp_path / "waves.npz", inputs=inputs.astype(np.float32), labels=labels)
    return tmp_path


def test_arrays_go_all_the_way(call: Call, waves: Path) -> None:
    data = ("data=arrays", "data.train=waves.npz", *SMALL)
    for name, model in (("mlp", ("model=mlp",)), ("own", ("model=module", "model.architecture=waves_net:Wave"))):
        result = call("train", *data, *model, "task.within=1", f"folder=outputs/train/{name}")
        assert result.code == 0, result.err
        rows = read_rows(Run(waves / "outputs" / "train" / name).pruning_file)
        assert {row["sparsity"] for row in rows} == {"0.0", "0.5"}
        assert all(float(row["within"]) >= float(row["accuracy"]) for row in rows)
    assert call("evaluate", "outputs/train/mlp", "sparsity=0.5").code == 0
    quick = ("granularity=unit", "sparsity=0.5", "rounds=6", "turn=0", "batches=[2]", "onnxruntime=false")
    result = call("compact", "outputs/train/own", *quick, "model.architecture=waves_net:Wave")
    assert result.code == 0, result.err
    result = call("table")
    assert result.code == 0, result.err
    (table,) = (waves / "outputs").rglob("table.md")
    assert "accuracy within 1" in table.read_text().lower()
