"""The metrics of the embedding task, compared with formulas written out."""

import pytest
import torch
from torch import nn

from runner.tasks.embedding import Embedding, spearman


def batches(count=30, features=6):
    generator = torch.Generator().manual_seed(0)
    targets = nn.functional.normalize(torch.randn(count, features, generator=generator), dim=-1)
    ids = torch.arange(count).unsqueeze(1)
    return [(ids[:20], targets[:20]), (ids[20:], targets[20:])], targets


class Lookup(nn.Module):
    def __init__(self, table):
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, ids):
        return self.table[ids[:, 0]]


def test_the_dense_networks_own_embeddings_agree_fully_whatever_their_length():
    parts, targets = batches()
    found = Embedding().evaluate(Lookup(3 * targets), parts)
    assert found["cosine"] == pytest.approx(1) and found["spearman"] == pytest.approx(1)
    assert (found["nearest"], found["examples"]) == (1.0, 30)
    assert found["loss"] == pytest.approx(0, abs=1e-6)


def test_each_measure_follows_its_definition():
    parts, targets = batches()
    noisy = nn.functional.normalize(targets + 0.5 * torch.randn(targets.shape), dim=-1)
    task = Embedding()
    found = task.evaluate(Lookup(noisy), parts)
    assert found["cosine"] == pytest.approx(float((noisy * targets).sum(1).mean()), rel=1e-5)
    assert task.validate(Lookup(noisy), parts)["cosine"] == pytest.approx(found["cosine"], rel=1e-5)
    pairs = [(i, j) for i in range(30) for j in range(i + 1, 30)]
    own, dense = ([float(x[i] @ x[j]) for i, j in pairs] for x in (noisy, targets))
    ranks = [[sorted(values).index(value) for value in values] for values in (own, dense)]
    n = len(pairs)
    distance = sum((a - b) ** 2 for a, b in zip(*ranks, strict=True))
    assert found["spearman"] == pytest.approx(1 - 6 * distance / (n * (n * n - 1)), rel=1e-6)
    nearest = [
        [max((j for j in range(30) if j != i), key=lambda j: float(x[i] @ x[j])) for i in range(30)]
        for x in (noisy, targets)
    ]
    assert found["nearest"] == pytest.approx(sum(a == b for a, b in zip(*nearest, strict=True)) / 30)
    assert spearman(torch.tensor([1.0, 2, 3]), torch.tensor([3.0, 2, 1])) == pytest.approx(-1)


def test_learning_turns_embeddings_towards_their_targets():
    parts, targets = batches()
    model, task = Lookup(torch.randn(targets.shape)), Embedding()
    loss, sums, count = task.training_loss(model, parts[0])
    assert loss.item() == pytest.approx(1 - float(sums["cosine"]) / count)
    loss.backward()
    with torch.no_grad():
        model.table -= model.table.grad
    assert task.training_loss(model, parts[0])[0] < loss
