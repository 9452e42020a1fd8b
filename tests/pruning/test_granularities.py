import pytest
import torch
from torch import nn

from runner.dropout.targeted import TargetedUnit
from runner.models.layers import FeaturePlace
from runner.pruning.apply import apply_masks, prune
from runner.pruning.granularities.feature import Feature, FeatureMembers
from runner.pruning.ranking import Ranking
from runner.pruning.sweep import Point, Sweeper
from runner.tasks.classification import Classification


class Network(nn.Module):
    """Two inner places: a convolution's channels, a linear layer's features."""

    feature_places = (FeaturePlace("second", "first", 1), FeaturePlace("logits", "dense", -1))

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3), nn.Conv2d(6, 5, 3)
        self.dense, self.logits = nn.Linear(5, 8), nn.Linear(8, 2)

    def forward(self, x, keep=(6, 8)):
        inner = torch.relu(self.first(torch.relu(self.stem(x))))
        inner = inner * (torch.arange(6) < keep[0])[:, None, None]
        dense = torch.relu(self.dense(self.second(inner).mean((2, 3))))
        return self.logits(dense * (torch.arange(8) < keep[1]))


@pytest.mark.parametrize("channels_last", [False, True])
def test_cutting_features_is_zeroing_them(channels_last):
    model = Network().to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    x = torch.randn(2, 3, 9, 9)
    places = FeatureMembers(model)
    first_go = places.rows({"second": torch.tensor([5.0, 4, 3, 2, 1, 0]), "logits": torch.arange(8.0).flip(0)})
    expected, whole = model(x, keep=(3, 4)), model(x)
    original = {name: weight.detach().clone() for name, weight in places.weights.items()}
    masks = places.masks(Ranking(first_go).pruned(0.5))
    apply_masks(places.weights, original, masks)
    assert torch.allclose(model(x), expected, atol=1e-6)
    assert not torch.allclose(model(x), whole, atol=1e-6)
    assert places.sparsity() == 0.5
    assert (model.second.weight[:, 3:] == 0).all() and (model.first.weight[3:] == 0).all()
    assert (model.logits.weight[:, 4:] == 0).all() and (model.dense.weight[4:] == 0).all()
    assert (model.second.weight[:, :3] != 0).all()


def test_features_go_by_the_norm_of_the_filter_that_makes_them_and_a_sweep_puts_them_back():
    model, x = Network(), torch.randn(20, 3, 9, 9)
    before = [p.detach().clone() for p in model.parameters()]

    class Data:
        def eval_batches(self, split, limit=None):
            yield x, torch.zeros(20, dtype=torch.long)

    points = [Point("feature", "layer", "own", 0.0, "none", s, "test") for s in (0.0, 0.5, 1.0)]
    points.append(Point("unit", "layer", "own", 0.0, "none", 0.5, "test"))
    rows = dict(Sweeper(model, Classification(), Data()).rows(points))
    assert [rows[p]["actual_sparsity"] for p in points[:3]] == [0, 0.5, 1]
    assert rows[points[0]]["prunable_weights"] == sum(m.weight.numel() for m in list(model.children())[1:])
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    norms = model.first.weight.flatten(1).norm(dim=1)
    members = Feature().members(model)
    gone = Ranking(members.magnitude()).pruned(0.5)["second"][0]
    assert sorted(gone.nonzero().flatten().tolist()) == sorted(norms.argsort()[:3].tolist())


def test_prune_cuts_features_by_a_variants_scores_and_elsewhere_by_norm():
    model = Network()
    by_norm = Ranking(Feature().members(model).magnitude()).pruned(0.5)["second"][0]
    masks = prune(model, 0.5, "feature", scores={"logits": torch.arange(8.0).flip(0)})
    assert (model.logits.weight[:, 4:] == 0).all() and (model.logits.weight[:, :4] != 0).all()
    assert (model.second.weight[:, by_norm] == 0).all() and (model.second.weight[:, ~by_norm] != 0).all()
    assert set(masks) == {"first", "second", "dense", "logits"}
    with pytest.raises(ValueError, match="features are cut at all places"):
        prune(model, 0.5, "feature", ["dense"])


def test_a_model_without_places_says_so():
    with pytest.raises(ValueError, match="Sequential declares no feature places"):
        Feature().members(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 4), nn.Linear(4, 2)))


def attention():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 8), nn.Linear(8, 2))
    model[1].matrices = 2  # heads
    with torch.no_grad():
        model[1].weight[:4] *= 10  # every filter of the second head is smaller than all those of the first
    return model


def test_units_of_stacked_matrices_go_within_each():
    gone = prune(attention(), 0.5, "unit")["1"].flatten()
    assert gone[:4].sum() == gone[4:].sum() == 2


def test_targeted_units_of_stacked_matrices_are_targeted_within_each():
    model, variant = attention(), TargetedUnit(alpha=1.0, gamma=0.5)
    expected = prune(attention(), 0.5, "unit")["1"].flatten()
    variant.attach(model)
    assert torch.equal((model.eval()[1].weight == 0).all(dim=1), expected)
