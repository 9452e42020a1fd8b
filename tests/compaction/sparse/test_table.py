"""The time that each layer takes."""

import pytest
import torch
from torch import nn

from runner.compaction.sparse import layer_times, network, sparsify
from runner.compaction.sparse.compiler import NoKernels
from runner.models.resnet import PreActResNet
from runner.pruning.apply import prune


@pytest.mark.parametrize("batch", [1, 11])
def test_rows(batch):
    torch.manual_seed(0)
    model = PreActResNet(blocks=1, width=0.25, image_size=16).eval()
    prune(model, 0.9)
    threads = torch.get_num_threads()
    rows = layer_times(sparsify(model, torch.randn(8, 3, 16, 16)), torch.randn(batch, 3, 16, 16), rounds=2)
    assert torch.get_num_threads() == threads
    weighted = {row.layer: row for row in rows if row.sparsity is not None}
    assert [name for row in weighted for name in row.split("+")] == [
        *("stem", "blocks.0.conv1", "blocks.0.conv2", "blocks.0.shortcut", "blocks.1.conv1", "blocks.1.conv2"),
        *("blocks.1.shortcut", "blocks.2.conv1", "blocks.2.conv2", "blocks.2.shortcut", "logits"),
    ]
    conv = model.blocks[0].conv1.weight
    assert weighted["blocks.0.conv1"].sparsity == pytest.approx((conv == 0).float().mean().item())
    assert weighted["blocks.0.conv1"].shape == (8, 16, 16)
    assert weighted["stem"].sparsity == 0
    assert weighted["blocks.2.conv1"].kernel == "taps"
    assert all(row.dense_ms > 0 and row.sparse_ms > 0 for row in weighted.values())
    others = [row for row in rows if row.sparsity is None]
    assert {"load", "store"} <= {row.kernel for row in others}
    assert all(row.dense_ms is None for row in others)


def test_no_rows_without_kernels(monkeypatch):
    def none():
        raise NoKernels("none")

    monkeypatch.setattr(network, "kernels", none)
    x = torch.zeros(1, 1, 2, 2)
    assert layer_times(sparsify(nn.Sequential(nn.Conv2d(1, 1, 1)).eval(), x), x) == []
