"""Networks cut to their first k features: the order, the values of k, and the measurements."""

from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from torch import nn

from runner.analyses.scree.codes import _order
from runner.analyses.scree.columns import Loaded
from runner.analyses.scree.cuts import ALL, Cut, cuts, some_ks
from runner.models.autoencoder import Autoencoder
from runner.models.layers import FeaturePlace
from runner.pruning.granularities.feature import Feature, FeatureMembers
from runner.pruning.sweep import Point, Sweeper
from runner.ranking import count
from runner.tasks.classification import Classification
from runner.tasks.reconstruction import Reconstruction


class Network(nn.Module):
    """Two inner places: channels behind BatchNorm, and features of a linear layer."""

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
        nn.init.ones_(self.norm.bias)  # so that a channel with a zero filter still has an effect

    def forward(self, x, channels=None, features=None):
        """`channels` (6,) and `features` (8,) are masks of what is kept."""
        inner = torch.relu(self.norm(self.first(torch.relu(self.stem(x)))))
        inner = inner if channels is None else inner * channels[:, None, None]
        dense = torch.relu(self.dense(self.after(self.second(inner)).mean((2, 3))))
        return self.logits(dense if features is None else dense * features)


class Data:
    """Ten training images, eight test images and, if requested, five validation images."""

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


def _sweeper(model, data=None, own=OWN, **more):
    """A sweeper whose granularities are the places, and all of them together."""
    names = list(FeatureMembers(model).magnitude())
    places = {ALL: Feature(names), **{name: Feature([name]) for name in names}}
    task = more.pop("task", Classification())
    return Sweeper(model, task, data or Data(), own_scores={"feature": own}, granularities=places, **more)


def _widths(sweeper):
    return {name: row.shape[1] for name, row in FeatureMembers(sweeper.model).magnitude().items()}


def _kept(sweeper, place, k, n):
    return sweeper.pruned(Cut(place, k, n, 1 - k / n).point("kept", "test"))


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_first_k_features_of_a_place_are_all_that_is_left(model, channels_last):
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sweeper, x = _sweeper(model), torch.randn(2, 3, 9, 9)
    channels, features, half = torch.zeros(6), torch.zeros(8), torch.zeros(8)
    channels[:3], features[[3, 5, 7]], half[[3, 5, 7, 6]] = 1, 1, 1
    for cut, expected in (
        (("second", 3, 6), model(x, channels)),
        (("logits", 3, 8), model(x, None, features)),
        ((ALL, 4, 8), model(x, channels, half)),
        (("second", 6, 6), model(x)),
    ):
        with torch.no_grad(), _kept(sweeper, *cut):
            assert torch.allclose(model(x), expected, atol=1e-6)
        assert _same(model, before)
    assert not torch.allclose(model(x, channels), model(x), atol=1e-3)


def test_the_weights_come_back_after_an_error(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError), _kept(_sweeper(model), "second", 1, 6):
        raise RuntimeError
    assert _same(model, before)


def test_without_scores_of_its_own_a_place_is_ordered_by_the_norm_of_its_filters(model):
    sweeper = _sweeper(model, own={"logits": OWN["logits"], "elsewhere": torch.arange(3.0)})
    norms = model.first.weight.flatten(1).norm(dim=1)
    assert _order(sweeper, "second").tolist() == norms.argsort(descending=True).tolist()
    assert _order(sweeper, "logits").tolist() == [3, 5, 7, 6, 1, 4, 2, 0]


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
    assert found == [
        *(Cut("b", 1, 2, 0.5), Cut("b", 2, 2, 0.0)),
        *(Cut(ALL, k, 6, sparsity) for k, sparsity in ((2, 0.75), (3, 0.5), (5, 0.25), (6, 0.0))),
    ]
    assert [(cut.k, cut.n) for cut in cuts(widths, widths, [ALL], [3])] == [(6, 16), (16, 16)]


def test_any_width_can_be_asked_of_all_places_and_none_is_left_empty():
    for n in (7, 49, 100, 511):
        for cut in cuts({"a": n, "b": 3}, {"a": n, "b": 3}, [ALL], range(1, n + 1)):
            assert 1 <= 3 - count(cut.sparsity, 3) <= 3
        for place in ("a", ALL):
            asked = cuts({"a": n}, {"a": n}, [place], range(1, n + 1))
            assert [cut.k for cut in asked] == [n - count(cut.sparsity, n) for cut in asked] == list(range(1, n + 1))


class _Parts:
    """The attributes of an experiment that `Loaded` needs."""

    def __init__(self, sweeper):
        self.task, self.data = sweeper.task, sweeper.data


def _measured(sweeper, asked, batch_norm="kept", advance=lambda: None):
    loaded = Loaded(None, _Parts(sweeper), sweeper, _widths(sweeper), (), False)
    return list(loaded.measure(asked, batch_norm, advance))


@pytest.mark.parametrize("batch_norm", ["kept", "recalibrated"])
def test_measured_is_what_a_sweep_of_features_measures(model, batch_norm):
    sweeper = _sweeper(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = _measured(sweeper, cuts(_widths(sweeper), _widths(sweeper), [ALL]), batch_norm)
    assert _same(model, before) and not model.training
    points = [
        Point("feature", "layer", "own", 0.0, batch_norm, s, split)
        for s in (0.0, 0.25, 0.5, 0.875)
        for split in ("validation", "test")
    ]
    rows = list(Sweeper(model, Classification(), Data(), own_scores={"feature": OWN}).rows(points))
    assert len(rows) == 8
    values = {(cut.k, split): metrics for cut, split, metrics in found}
    for point, row in rows:
        k = round(14 * (1 - row["actual_sparsity"]))
        assert values[k, point.split] == {"accuracy": row["accuracy"], "loss": row["loss"]}


def test_every_cut_is_measured_on_all_splits_under_the_context_and_the_limit(model):
    entered, steps = [], []

    @contextmanager
    def context():
        entered.append(1)
        yield

    sweeper = _sweeper(model, context=context, limit=4)
    asked = cuts(_widths(sweeper), _widths(sweeper), ["second", "logits", ALL], [2])
    found = _measured(sweeper, asked, advance=lambda: steps.append(1))
    assert [(cut.place, cut.k, cut.n, split) for cut, split, _ in found] == [
        (place, k, n, split)
        for place, n, ks in (("second", 6, (2, 6)), ("logits", 8, (2, 8)), (ALL, 14, (4, 14)))
        for k in ks
        for split in ("validation", "test")
    ]
    assert len(steps) == 2 * len(asked) == 12
    assert len(entered) == 4, "all features of one place, of the other and of both are the same network"
    assert sweeper.data.asked == [("test", 4), ("validation", 4)] * 4


def test_a_split_that_holds_nothing_is_left_out_and_a_loss_with_two_names_stands_once():
    torch.manual_seed(0)
    model = Autoencoder(3, 9, widths=(6,), code=4)
    sweeper = _sweeper(model, Data(validation=False), {}, task=Reconstruction())
    ((cut, split, metrics),) = _measured(sweeper, [Cut("decoder.0", 4, 4, 0.0)])
    assert (cut.k, split) == (4, "test")
    assert metrics == {"mse": pytest.approx(_mse(model, sweeper.data.images["test"]), rel=1e-6)}
    assert not model.training


@torch.no_grad()
def _mse(model, images):
    return (model(images) - images).square().mean().item()
