"""The alternatives that TailDropout is compared with."""

import torch

from runner.benchmarks import tail
from runner.benchmarks.tail import obvious, ready_mask, tail_dropout


def test_every_shape_has_its_versions_and_ours_a_target(monkeypatch):
    shapes = (((4, 3, 6), (0, 1), -1, 1.6), ((4, 6, 2, 2), (0,), 1, 1.1))
    monkeypatch.setattr(tail, "SHAPES", shapes)
    comparisons = list(tail_dropout())
    names = ["TailDropout", "nn.Dropout", "obvious TailDropout", "TailDropout", "nn.Dropout2d", "obvious TailDropout"]
    assert [c.name.split(",")[0] for c in comparisons] == names
    assert [c.target for c in comparisons] == [1.6, None, None, 1.1, None, None]
    for comparison in comparisons:
        comparison.a()
        comparison.b()


def test_the_obvious_version_keeps_the_first_features():
    torch.manual_seed(0)
    kept = obvious(torch.ones(200, 6, 2, 2), (0,), 1)
    assert torch.equal(kept, kept[:, :, :1, :1].expand_as(kept))
    lengths = kept[:, :, 0, 0].sum(1).long()
    assert torch.equal(kept[:, :, 0, 0].bool(), torch.arange(6) < lengths[:, None])
    assert set(lengths.tolist()) == set(range(7))


def test_the_ready_mask_broadcasts_as_ours_does():
    mask = ready_mask((4, 6, 2, 2), (0,), 1)
    assert mask.shape == (4, 6, 1, 1) and mask.sum() == 12
    assert ready_mask((4, 3, 6), (0, 1), -1).shape == (4, 3, 6)
