from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from runner.config.choices import settle
from runner.errors import ConfigError
from runner.pruning.apply import prune, recalibrated
from runner.pruning.sweep import Point, Sweeper, asked_points, with_unpruned
from runner.tasks.classification import Classification

GRID = {
    "granularity": "auto",
    "scope": "layer",
    "criterion": settle("criterion", "own"),
    "floor": "auto",
    "batch_norm": ["kept", "recalibrated"],
    "sparsities": [0.9, 0, 0.5, 0.5],
    "splits": ["validation", "test"],
}


class Data:
    """Random images, and a count of how often each split was requested."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.images = {s: torch.randn(40, 3, 6, 6, generator=generator) + 2 for s in ("train", "validation", "test")}
        self.asked = Counter()

    def eval_batches(self, split, limit=None):
        self.asked[split] += 1
        images = self.images[split][:limit]
        yield from zip(images.split(16), torch.zeros(len(images), dtype=torch.long).split(16), strict=True)

    def augmented_batches(self, limit, seed):
        self.asked["train", limit, seed] += 1
        yield (self.images["train"][:limit] + 1,)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)),
    )


def settled(changes):
    return {"criterion": settle("criterion", changes.pop("scores")), **changes} if "scores" in changes else changes


def points(floor=0.0, **changes):
    return asked_points(
        {**GRID, **settled(changes)}, ["weight"], lambda granularity: floor, True, ["train", "validation", "test"]
    )


def test_the_scope_is_the_variants_unless_it_is_asked_for():
    def scopes(asked):
        prune = {**GRID, **settled({}), "scope": asked}
        return {point.scope for point in asked_points(prune, ["weight"], lambda g: 0.0, True, ["test"], "global")}

    assert scopes("auto") == {"global"}
    assert scopes("erk") == {"erk"}


def test_groups_are_compared_within_themselves_whatever_the_variant_compares():
    prune = {**GRID, "granularity": settle("granularity", "n_of_m"), "scope": "auto"}
    found = asked_points(prune, ["weight"], lambda granularity: 0.0, True, ["test"], "global")
    assert {point.scope for point in found} == {"layer"}
    with pytest.raises(ConfigError, match=r"prune\.scope=erk: not for prune\.granularity=n_of_m; expected auto, layer"):
        asked_points({**prune, "scope": "erk"}, ["weight"], lambda granularity: 0.0, True, ["test"])


def test_what_is_asked_for():
    asked = points()
    assert len(asked) == 2 * 3 * 2
    assert {p.batch_norm for p in asked} == {"kept", "recalibrated"}
    assert {(p.granularity, p.floor) for p in asked} == {("weight", 0.0)}
    without = asked_points({**GRID, "floor": 0.3}, ["unit"], lambda g: 0.75, False, ["test"])
    assert {(p.batch_norm, p.floor, p.split) for p in without} == {("none", 0.3, "test")}


def test_rows_are_the_metrics_of_the_pruned_network_and_the_model_is_unchanged():
    model, data, task = network(), Data(), Classification()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    rows = dict(Sweeper(model, task, data).rows(points()))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    for sparsity in (0.0, 0.5, 0.9):
        pruned = network().eval()
        flat = pruned[3].weight.detach().view(8, -1)
        for filter_ in flat:
            filter_[filter_.abs().argsort()[: int(sparsity * 36)]] = 0
        expected = task.evaluate(pruned, data.eval_batches("test"))
        row = rows[Point("weight", "layer", "own", 0.0, "kept", sparsity, "test")]
        assert {key: row[key] for key in expected} == pytest.approx(expected)
        assert row["nonzero_weights"] == int((flat != 0).sum())
        assert row["actual_sparsity"] == pytest.approx(int(sparsity * 36) / 36)
        assert row["prunable_weights"] == 288


def test_below_the_floor_the_network_is_measured_once():
    data = Data()
    rows = list(Sweeper(network(), Classification(), data).rows(points(floor=0.75, batch_norm=["kept"])))
    assert data.asked == {"test": 2, "validation": 2}  # at the floor and at 0.9
    by_sparsity = {p.sparsity: row for p, row in rows if p.split == "test"}
    assert by_sparsity[0.0] == by_sparsity[0.5] != by_sparsity[0.9]
    assert by_sparsity[0.0]["actual_sparsity"] == 0.75


def test_the_unpruned_network_is_asked_for_once_where_a_floor_hides_it():
    unpruned = Point("weight", "layer", "own", 0.0, "kept", 0.0, "test")
    floored = points(floor=0.75, batch_norm=["kept"], splits=["test"], scope="global", scores="random")
    assert with_unpruned(floored) == [unpruned, *floored]
    # With floor 0, the row of sparsity 0 is the unpruned network; a grid without 0 lacks it.
    from_zero = points(batch_norm=["kept"], splits=["test"])
    assert with_unpruned(from_zero) == from_zero
    high = points(batch_norm=["kept"], splits=["test"], sparsities=[0.9])
    assert with_unpruned(high) == [unpruned, *high]


def test_the_unpruned_network_is_measured_once_for_all_granularities_with_the_counts_of_each():
    model, data = network(), Data()
    with torch.no_grad():
        model[3].weight[0] = 0  # a filter without weights after training
    asked = [replace(p, granularity=g) for g in ("weight", "unit") for p in points(0.75, batch_norm=["kept"])]
    rows = dict(Sweeper(model, Classification(), data).rows(with_unpruned(asked)))
    assert data.asked == {"test": 5, "validation": 5}  # also for each granularity, at the floor and at 0.9
    weight, unit = (rows[Point(g, "layer", "own", 0.0, "kept", 0.0, "test")] for g in ("weight", "unit"))
    expected = Classification().evaluate(model.eval(), data.eval_batches("test"))
    assert {key: weight[key] for key in expected} == {key: unit[key] for key in expected} == expected
    assert (weight["actual_sparsity"], unit["actual_sparsity"]) == (0.125, 0.125)
    assert weight != rows[Point("weight", "layer", "own", 0.75, "kept", 0.0, "test")]


def test_own_scores_decide_and_magnitude_ignores_them():
    model = network()
    own = {"weight": {"3": -model[3].weight.detach().abs().flatten(1)}}
    sweeper = Sweeper(model, Classification(), Data(), own_scores=own)
    kept = {}
    for scores in ("own", "magnitude", "random"):
        for _ in sweeper.rows(points(scores=scores, sparsities=[0.9], splits=["test"], batch_norm=["kept"])):
            kept[scores] = model[3].weight[model[3].weight != 0].abs().mean()
    assert kept["own"] < kept["random"] < kept["magnitude"]


def test_recalibration_is_the_mean_of_the_batches_statistics_and_is_undone():
    model, data = network(), Data()
    model[1].running_mean += 3
    before = {name: t.clone() for name, t in model.state_dict().items()}
    batches = [(x, None) for x in data.images["train"].split(10)]
    with recalibrated(model, batches):
        activations = [model[0](x) for x, _ in batches]
        mean = torch.stack([a.mean((0, 2, 3)) for a in activations]).mean(0)
        variance = torch.stack([a.var((0, 2, 3)) for a in activations]).mean(0)
        assert torch.allclose(model[1].running_mean, mean, atol=1e-5)
        assert torch.allclose(model[1].running_var, variance, atol=1e-5)
        assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert model[1].momentum == 0.1
    assert model.training


def test_a_sweep_recalibrates_on_augmented_images_of_its_seed():
    model, data = network(), Data()
    sweeper = Sweeper(model, Classification(), data, seed=7)
    asked = points(sparsities=[0.5], splits=["test"], batch_norm=["recalibrated"])
    found = dict(sweeper.rows(asked))
    assert data.asked["train"] == 0
    assert set(data.asked) - {"test"} == {("train", 2000, 7)}
    prune(model.eval(), 0.5)
    with recalibrated(model, data.augmented_batches(2000, 7)):
        expected = Classification().evaluate(model, data.eval_batches("test"))
    assert found[asked[-1]]["loss"] == pytest.approx(expected["loss"])


def test_an_error_in_recalibration_leaves_the_model_as_it_was():
    model = network().eval()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(RuntimeError), recalibrated(model, [(torch.zeros(2, 2, 6, 6),)]):
        pass
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert not any(m.training for m in model.modules())


def test_a_last_batch_of_one_example_is_left_out_of_the_statistics():
    model, images = network(), Data().images["train"]
    with recalibrated(model, [(images[:20],), (images[20:21],)]):
        mean = model[1].running_mean.clone()
    with recalibrated(model, [(images[:20],)]):
        assert torch.equal(model[1].running_mean, mean)


@pytest.mark.parametrize("batches", [[], [(torch.zeros(1, 2, 6, 6),)]], ids=["none", "single examples"])
def test_statistics_are_not_recalibrated_on_nothing(batches):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match="at least one batch of two or more examples"), recalibrated(model, batches):
        pass
