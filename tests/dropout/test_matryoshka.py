"""Matryoshka and slimmable training: the widths of a step, the targets of each, and the state afterwards."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.dropout.matryoshka import Matryoshka, Slimmable
from runner.errors import ParameterError
from runner.models.layers import FeaturePlace
from runner.tasks.classification import Classification
from runner.tasks.reconstruction import Reconstruction


class Small(nn.Module):
    """Ten features, normalized, then three logits. The input of the place is recorded in each pass."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.norm, self.logits = nn.Linear(4, 10), nn.BatchNorm1d(10), nn.Linear(10, 3)
        self.after = nn.BatchNorm1d(3)
        self.feature_places = (FeaturePlace("logits", "norm", -1),)
        self.widths = []

    def forward(self, x):
        return self.after(self.logits(self.norm(self.body(x))))


def attached(variant):
    model = Small()
    variant.attach(model)
    model.logits.register_forward_hook(lambda _, inputs, output: model.widths.append(count(inputs[0])))
    return model


def count(features):
    kept = features.ne(0).any(0)
    assert torch.equal(kept, kept.cummin(0).values), "the first ones are kept"
    return int(kept.sum())


def at_width(k, x):
    model = Small()
    features = model.norm(model.body(x)) * (torch.arange(10) < k)
    return model.after(model.logits(features))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 4, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2])


def test_the_loss_is_the_weighted_mean_over_the_widths(batch):
    inputs, labels = batch
    each = [float(F.cross_entropy(at_width(k, inputs), labels).detach()) for k in (2, 5, 10)]
    for weights, shares in ((None, (1 / 3, 1 / 3, 1 / 3)), ([2, 1, 1], (0.5, 0.25, 0.25))):
        variant = Matryoshka(widths=(0.2, 0.5, 1.0), weights=weights)
        model = attached(variant)
        loss, metrics, examples = variant.training_loss(Classification(), model, batch)
        assert model.widths == [2, 5, 10] and examples == 6
        assert float(loss.detach()) == pytest.approx(
            sum(s * one for s, one in zip(shares, each, strict=True)), rel=1e-5
        )
        assert int(metrics["accuracy"]) == int((at_width(10, inputs).argmax(1) == labels).sum())


def test_the_sandwich_has_the_whole_network_random_widths_and_the_narrowest():
    variant = Slimmable(narrowest=0.3, random=2)
    model, between = attached(variant), set()
    torch.manual_seed(0)
    for _ in range(30):
        model.widths.clear()
        variant.training_loss(Classification(), model, (torch.randn(6, 4), torch.zeros(6, dtype=torch.long)))
        assert (model.widths[0], model.widths[-1], len(model.widths)) == (10, 3, 4)
        between.update(model.widths[1:3])
    assert between == {4, 5, 6, 7, 8, 9, 10}


def test_narrow_widths_learn_from_the_whole_networks_outputs(batch):
    inputs, labels = batch
    whole, narrow = at_width(10, inputs), at_width(5, inputs)
    # Only the narrow network gets a gradient.
    expected = (F.cross_entropy(whole, labels) + F.cross_entropy(narrow, whole.detach().softmax(1))) / 2
    variant = Slimmable(narrowest=0.5, random=0)
    model = attached(variant)
    loss, metrics, _ = variant.training_loss(Classification(), model, batch)
    loss.backward()
    assert torch.allclose(loss, expected)
    assert int(metrics["accuracy"]) == int((whole.argmax(1) == labels).sum())

    reference = Small()
    full = reference(inputs)
    features = reference.norm(reference.body(inputs)) * (torch.arange(10) < 5)
    cut = reference.after(reference.logits(features))
    ((F.cross_entropy(full, labels) + F.cross_entropy(cut, full.detach().softmax(1))) / 2).backward()
    assert torch.allclose(model.body.weight.grad, reference.body.weight.grad, atol=1e-6)

    without = Slimmable(narrowest=0.5, random=0, distill=False)
    plain = (F.cross_entropy(whole, labels) + F.cross_entropy(narrow, labels)) / 2
    loss = without.training_loss(Classification(), attached(without), batch)[0]
    assert torch.allclose(loss, plain)


def test_tasks_that_can_be_learned_from_another_networks_outputs(batch):
    inputs, _ = batch
    taught = torch.randn(6, 3)
    assert torch.allclose(Reconstruction().imitation_loss(Small(), batch, taught), F.mse_loss(Small()(inputs), taught))
    own = at_width(10, inputs)
    entropy = -(own.softmax(1) * own.log_softmax(1)).sum(1).mean()
    assert torch.allclose(Classification().imitation_loss(Small(), batch, own.detach()), entropy)


def test_a_task_without_imitation_is_learned_from_its_targets(batch):
    class Plain:
        def training_loss(self, model, batch):
            return F.cross_entropy(model(batch[0]), batch[1]), {}, len(batch[0])

    variant = Slimmable(narrowest=0.5, random=0)
    loss = variant.training_loss(Plain(), attached(variant), batch)[0]
    each = [F.cross_entropy(at_width(k, batch[0]), batch[1]) for k in (10, 5)]
    assert torch.allclose(loss, sum(each) / 2)


def test_only_the_whole_networks_pass_of_slimmable_changes_running_statistics(batch):
    reference, variant = Small(), Slimmable(narrowest=0.2)
    reference(batch[0])
    model = attached(variant)
    variant.training_loss(Classification(), model, batch)
    assert torch.allclose(model.after.running_var, reference.after.running_var)
    assert model.after.num_batches_tracked == 1 and model.after.momentum == 0.1

    several = Matryoshka(widths=(0.2, 1.0))
    model = attached(several)
    several.training_loss(Classification(), model, batch)
    assert not torch.allclose(model.after.running_var, reference.after.running_var)


@pytest.mark.parametrize("variant", [Matryoshka(), Slimmable()], ids=["matryoshka", "slimmable"])
def test_evaluation_is_whole_and_training_needs_its_loss(variant, batch):
    model = attached(variant)
    with pytest.raises(RuntimeError, match="training_loss"):
        model(batch[0])
    model.eval()
    model(batch[0])
    assert model.widths == [10]
    assert variant.scores()["feature"]["logits"].tolist() == list(range(9, -1, -1))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Matryoshka(widths=(0.5,)), "widths"),
        (lambda: Matryoshka(weights=[1, 1]), "weights"),
        (lambda: Matryoshka(weights=[1, 1, 1, 0]), "weights"),
        (lambda: Slimmable(narrowest=0), "narrowest"),
        (lambda: Slimmable(random=-1), "random"),
    ],
)
def test_values_that_are_not_allowed(make, named):
    with pytest.raises(ParameterError, match=named):
        make()
