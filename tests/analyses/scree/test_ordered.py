"""Networks cut to their first k features: the order, which k, and what is measured."""

from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from torch import nn

from runner.analyses.scree.ordered import ALL, Cut, Meter, Ordered, cuts, some_ks
from runner.models.autoencoder import Autoencoder
from runner.models.layers import FeaturePlace
from runner.pruning.sweep import Point, Sweeper
from runner.tasks.classification import Classification
from runner.tasks.reconstruction import Reconstruction


class Network(nn.Module):
    """Two inner places, channels behind BatchNorm and features of a linear layer."""

    feature_places = (FeaturePlace("second", "first", 1), FeaturePlace("logits", "dense", -1))

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.first, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)
        self.second, self.after = nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5)
        self.dense, self.logits = nn.Linear(5, 8), nn.Linear(8, 3)
        for norm in (self.norm, self.after):
            nn.init.uniform_(norm.running_mean, -1, 1)
            nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.ones_(self.norm.bias)  # so that a channel whose filter is zero still says something

    def forward(self, x, channels=None, features=None):
        """`channels` (6,) and `features` (8,) say what is left."""
        inner = torch.relu(self.norm(self.first(torch.relu(self.stem(x)))))
        inner = inner if channels is None else inner * channels[:, None, None]
        dense = torch.relu(self.dense(self.after(self.second(inner)).mean((2, 3))))
        return self.logits(dense if features is None else dense * features)


class Data:
    """Ten images to learn from, eight to test on and, if asked for, five for validation."""

    def __init__(self, validation=True):
        generator = torch.Generator().manual_seed(1)
        sizes = {"train": 10, "validation": 5 * validation, "test": 8}
        self.images = {name: torch.randn(n, 3, 9, 9, generator=generator) for name, n in sizes.items() if n}
        self.splits = tuple(self.images)
        self.asked = []

    def eval_batches(self, split, limit=None):
        self.asked.append((split, limit))
        images = self.images[split][:limit]
        for part in images.split(3):
            yield part, torch.arange(len(part)) % 3

    def augmented_batches(self, limit, seed):
        self.asked.append(("augmented", limit, seed))
        yield (self.images["train"][:limit] + 1,)


OWN = {"second": torch.arange(6.0).flip(0), "logits": torch.tensor([0.0, 3, 1, 7, 2, 6, 4, 5])}


@pytest.fixture
def model():
    return Network().eval()


def _same(model, before):
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_first_k_features_are_all_that_is_left(model, channels_last):
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ordered, x = Ordered(model, OWN), torch.randn(2, 3, 9, 9)
    assert ordered.widths == {"second": 6, "logits": 8}
    assert ordered.features("second").tolist() == [0, 1, 2, 3, 4, 5]
    assert ordered.features("logits").tolist() == [3, 5, 7, 6, 1, 4, 2, 0]
    channels, features = torch.zeros(6), torch.zeros(8)
    channels[:2], features[[3, 5, 7]] = 1, 1
    for kept, expected in (
        ({"second": 2}, model(x, channels)),
        ({"logits": 3}, model(x, None, features)),
        ({"second": 2, "logits": 3}, model(x, channels, features)),
        ({"second": 0}, model(x, torch.zeros(6))),
        ({}, model(x)),
    ):
        with ordered.first(kept):
            assert torch.allclose(model(x), expected, atol=1e-6)
        assert _same(model, before)
    assert not torch.allclose(model(x, channels), model(x), atol=1e-3)


def test_the_weights_come_back_after_an_error(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError), Ordered(model, OWN).first({"second": 1}):
        raise RuntimeError
    assert _same(model, before)


def test_without_scores_of_its_own_a_place_is_ordered_by_the_norm_of_its_filters(model):
    ordered = Ordered(model, {"logits": OWN["logits"], "elsewhere": torch.arange(3.0)})
    norms = model.first.weight.flatten(1).norm(dim=1)
    assert ordered.features("second").tolist() == norms.argsort(descending=True).tolist()
    assert ordered.features("logits").tolist() == [3, 5, 7, 6, 1, 4, 2, 0]
    assert set(ordered.widths) == {"second", "logits"}


def test_a_model_without_feature_places_has_no_order():
    with pytest.raises(ValueError, match="Linear declares no feature places"):
        Ordered(nn.Linear(2, 2), {})


@pytest.mark.parametrize("n", [1, 2, 31, 32])
def test_every_k_of_few_features(n):
    assert some_ks(n) == list(range(1, n + 1))


@pytest.mark.parametrize("n", [33, 64, 512, 100_000])
def test_of_many_some_at_even_ratios(n):
    ks = some_ks(n)
    assert ks[0] == 1 and ks[-1] == n and 12 <= len(ks) <= 24
    ratios = [b / a for a, b in pairwise(ks) if a >= 10]
    assert max(ratios) / min(ratios) < 1.2


def test_asked_ks_are_those_that_there_are_and_all():
    assert some_ks(8, [9, 4, 1, 4]) == [1, 4, 8]
    assert some_ks(64, [64, 3]) == [3, 64]
    assert some_ks(2, [5]) == [2]


def test_all_places_keep_the_same_fraction_as_a_sweep_does():
    widths = {"a": 4, "b": 2, "c": 10}
    found = cuts(widths, {"a": 4, "b": 2}, ["b", ALL], None)
    assert found[:2] == [Cut("b", 1, 2, {"b": 1}), Cut("b", 2, 2, {"b": 2})]
    assert [(cut.k, cut.n, cut.kept) for cut in found[2:]] == [
        (2, 6, {"a": 1, "b": 1}),
        (3, 6, {"a": 2, "b": 1}),
        (5, 6, {"a": 3, "b": 2}),
        (6, 6, {"a": 4, "b": 2}),
    ]
    assert [cut.kept for cut in cuts(widths, widths, [ALL], [3])] == [{"a": 2, "b": 1, "c": 3}, widths]


def test_any_width_can_be_asked_of_all_places_and_none_is_left_empty():
    for n in (7, 49, 100, 511):
        for cut in cuts({"a": n, "b": 3}, {"a": n, "b": 3}, [ALL], range(1, n + 1)):
            assert 1 <= cut.kept["b"] <= 3
        kept = [cut.kept["a"] for cut in cuts({"a": n}, {"a": n}, [ALL], range(1, n + 1))]
        assert kept == list(range(1, n + 1))


def _measured(meter, asked):
    return {(cut.place, cut.k, split): values for cut, split, values in meter.measure(asked)}


@pytest.mark.parametrize("batch_norm", ["kept", "recalibrated"])
def test_measured_is_what_a_sweep_of_features_measures(model, batch_norm):
    ordered = Ordered(model, OWN)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = _measured(
        Meter(ordered, Classification(), Data(), batch_norm=batch_norm), cuts(ordered.widths, ordered.widths, [ALL])
    )
    assert _same(model, before) and not model.training
    points = [
        Point("feature", "layer", "own", 0.0, batch_norm, s, split)
        for s in (0.0, 0.25, 0.5, 0.875)
        for split in ("validation", "test")
    ]
    rows = list(Sweeper(model, Classification(), Data(), own_scores={"feature": OWN}).rows(points))
    assert len(rows) == 8
    for point, row in rows:
        k = round(14 * (1 - row["actual_sparsity"]))
        assert found[ALL, k, point.split] == {"accuracy": row["accuracy"], "loss": row["loss"]}


def test_recalibration_is_of_the_cut_network_on_images_to_learn_from(model):
    data, ordered = Data(), Ordered(model, OWN)
    asked = [Cut("second", 2, 6, {"second": 2})]
    kept = _measured(Meter(ordered, Classification(), data), asked)
    assert "train" not in {split for split, _ in data.asked}
    found = _measured(Meter(ordered, Classification(), data, batch_norm="recalibrated", seed=7), asked)
    assert data.asked.count(("augmented", 2000, 7)) == 1
    assert found["second", 2, "test"]["loss"] != kept["second", 2, "test"]["loss"]


def test_every_cut_is_measured_once_on_all_splits_under_the_context_and_the_limit(model):
    data, ordered, entered, steps = Data(), Ordered(model, OWN), [], []

    @contextmanager
    def context():
        entered.append(1)
        yield

    asked = cuts(ordered.widths, ordered.widths, ["second", "logits", ALL], [2])
    found = list(Meter(ordered, Classification(), data, context, limit=4).measure(asked, lambda: steps.append(1)))
    assert [(cut.place, cut.k, cut.n, split) for cut, split, _ in found] == [
        (place, k, n, split)
        for place, n, ks in (("second", 6, (2, 6)), ("logits", 8, (2, 8)), (ALL, 14, (4, 14)))
        for k in ks
        for split in ("validation", "test")
    ]
    assert len(steps) == len(asked) == 6
    assert len(entered) == 4, "all features of one place, of the other and of both are the same network"
    assert data.asked == [("validation", 4), ("test", 4)] * 4


def test_a_split_that_holds_nothing_is_left_out_and_a_loss_with_two_names_stands_once():
    torch.manual_seed(0)
    model = Autoencoder(3, 9, widths=(6,), code=4)
    data = Data(validation=False)
    found = _measured(Meter(Ordered(model, {}), Reconstruction(), data), [Cut("decoder.0", 4, 4, {"decoder.0": 4})])
    assert found == {("decoder.0", 4, "test"): {"mse": pytest.approx(_mse(model, data.images["test"]), rel=1e-6)}}
    assert not model.training


@torch.no_grad()
def _mse(model, images):
    return (model(images) - images).square().mean().item()
