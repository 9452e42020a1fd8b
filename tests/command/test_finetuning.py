"""From stored weights: prune once and train, drop the least important members, learn from the dense network."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from runner.dropout.masked import OneShot
from runner.files import read_rows
from runner.tasks.classification import Classification
from runner.training.schedules import Adam, OneCycle, decay_groups

SMALL = ("model=mlp", "model.widths=[8]", "debug=smoke", "prune.sparsities=[0,0.5]", "prune.splits=[test]")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Flatten(), nn.Linear(48, 16), nn.Linear(16, 5))


@pytest.mark.parametrize("granularity", ["weight", "unit", {"n_of_m": {"m": 2}}, "block"], ids=str)
@pytest.mark.parametrize("schedule", [OneCycle(0.05), Adam(weight_decay=0.1, decoupled=True)], ids=["sgd", "adamw"])
def test_zeros_stay_zeros_under_every_optimiser(granularity, schedule):
    model = network()
    with torch.no_grad():
        model[1].weight[0, 0] = 0  # as left by an earlier pruning
    groups = decay_groups(model, schedule.weight_decay)
    variant = OneShot(0.5, granularity)
    variant.attach(model)
    gone = {name: layer.weight == 0 for name, layer in variant.layers.items()}
    before = model[1].weight.detach().clone()
    optimizer = schedule.optimizer(groups)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(8, 3, 6, 6)), torch.randint(5, (8,))).backward()
        optimizer.step()
    variant.detach()
    assert gone["1"][0, 0].all() and 0.4 < gone["1"].float().mean() < 0.65
    for name, mask in gone.items():
        assert torch.equal(model.get_submodule(name).weight == 0, mask)
    assert not torch.equal(model[1].weight, before)


def test_without_a_sparsity_only_what_is_zero_stays_so():
    model = network()
    with torch.no_grad():
        model[1].weight[:, 3] = 0
    variant = OneShot()
    variant.attach(model)
    assert torch.equal(model[1].weight == 0, torch.zeros(12, 8, 3, 3).index_fill(1, torch.tensor(3), 1) == 1)


def test_the_command_fine_tunes_a_pruned_network(call, tmp_path):
    assert call("train", *SMALL, "folder=dense").code == 0
    words = ("schedule=finetune", "init=dense", "dropout=masked", "dropout.sparsity=0.75", "folder=tuned")
    result = call("train", *SMALL, *words)
    assert result.code == 0, result.err
    before, after = (load_file(tmp_path / name / "weights.safetensors") for name in ("dense", "tuned"))
    hidden = "hidden.2.weight" if "hidden.2.weight" in after else next(n for n in after if n.endswith("0.weight"))
    zeros = after[hidden] == 0
    assert zeros.float().mean() == pytest.approx(0.75, abs=0.02)
    assert before[hidden].abs()[zeros].mean() < before[hidden].abs()[~zeros].mean()
    # Further pruning never restores anything.
    rows = [row for row in read_rows(tmp_path / "tuned" / "pruning.csv") if row["sparsity"] == "0.5"]
    assert all(float(row["actual_sparsity"]) == pytest.approx(0.75, abs=0.02) for row in rows)


def test_a_network_learns_from_the_one_it_began_as(call, tmp_path):
    assert call("train", *SMALL, "folder=dense").code == 0
    words = ("init=dense", "task.distill=0.5", "dropout=targeted", "folder=taught")
    assert call("train", *SMALL, *words).code == 0
    assert call("prune", "taught", "prune.sparsities=[0.9]").code == 0  # without the teacher
    refused = call("train", *SMALL, "task.distill=0.5", "folder=alone")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "needs a trained network as its teacher: init=" in refused.err
    assert not (tmp_path / "alone").exists()


def test_distillation_is_the_divergence_of_softened_probabilities():
    torch.manual_seed(0)
    task, student, teacher = Classification(distill=0.3, temperature=4.0), nn.Linear(6, 5), nn.Linear(6, 5)
    task.teacher = teacher
    x, labels = torch.randn(7, 6), torch.randint(5, (7,))
    loss, _, _ = task.training_loss(student, (x, labels))
    p, q = (teacher(x) / 4).softmax(1), (student(x) / 4).softmax(1)
    divergence = 16 * (p * (p.log() - q.log())).sum(1).mean()
    assert loss.item() == pytest.approx((0.7 * F.cross_entropy(student(x), labels) + 0.3 * divergence).item(), rel=1e-5)
    loss.backward()
    assert teacher.weight.grad is None
