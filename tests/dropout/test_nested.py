"""Nested and ordered dropout: how many features are kept, and at which places."""

import pytest
import torch
from torch import nn

from runner.dropout.nested import Nested, Ordered
from runner.errors import ParameterError
from runner.models.layers import FeaturePlace
from runner.models.mlp import MLP


class Ones(nn.Module):
    """Two places of ten and six features, which are all one."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(10, 1), nn.Linear(6, 1)
        self.feature_places = (FeaturePlace("first", "first", -1), FeaturePlace("second", "second", -1))
        self.seen = {}
        for name in ("first", "second"):
            self.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, name=name: self.seen.__setitem__(name, inputs[0])
            )

    def forward(self, examples):
        return self.first(torch.ones(examples, 10)) + self.second(torch.ones(examples, 6))


def kept(model, variant, examples, step=0):
    variant.before_step(step, 100)
    model(examples)
    for seen in model.seen.values():
        assert torch.equal(seen, seen.cummin(1).values), "the first ones are kept"
    return {name: seen.sum(1).long() for name, seen in model.seen.items()}


def test_nested_k_is_geometric_and_an_examples_own():
    torch.manual_seed(0)
    model, variant = Ones(), Nested(mean=0.3)
    variant.attach(model)
    k = kept(model, variant, 200_000)["first"]
    rho = 1 / 3
    for j in range(1, 10):
        assert float((k == j).float().mean()) == pytest.approx(rho * (1 - rho) ** (j - 1), abs=0.004)
    assert float((k == 10).float().mean()) == pytest.approx((1 - rho) ** 9, abs=0.004)
    second = kept(model, variant, 1000)["second"]
    assert second.min() == 1 and second.max() == 6
    model.eval()
    assert all((count == n).all() for count, n in zip(kept(model, variant, 5).values(), (10, 6), strict=True))


def test_so_small_a_mean_that_one_feature_is_left():
    model, variant = Ones(), Nested(mean=0.01)
    variant.attach(model)
    assert all((count == 1).all() for count in kept(model, variant, 50).values())


def test_ordered_has_one_width_a_step_everywhere():
    torch.manual_seed(0)
    model, variant = Ones(), Ordered(widths=(0.25, 0.5, 1.0))
    variant.attach(model)
    found = []
    for step in range(60):
        counts = kept(model, variant, 4, step)
        assert all(len(set(count.tolist())) == 1 for count in counts.values())
        found.append((int(counts["first"][0]), int(counts["second"][0])))
    assert set(found) == {(3, 2), (5, 3), (10, 6)}
    model.eval()
    model(4)
    assert model.seen["first"].sum(1).tolist() == [10.0] * 4


def test_ordered_draws_a_width_that_is_listed_three_times_three_times_as_often():
    torch.manual_seed(0)
    variant = Ordered(widths=(0.5, 1, 1, 1))
    drawn = []
    for step in range(1000):
        variant.before_step(step, 1000)
        drawn.append(variant.now)
    assert drawn.count(1.0) + drawn.count(0.5) == 1000
    assert 690 < drawn.count(1.0) < 810  # four standard deviations


def test_ordered_keeps_as_many_as_the_sweep_does():
    """Widths whose products with n are not whole numbers in floating point: 0.3 · 180 is 54."""
    variant = Ordered(widths=(0.3, 1.0))
    place = FeaturePlace("consumer", "producer", -1)
    change = variant.change_at(place, nn.Linear(180, 1))
    torch.manual_seed(0)
    kept = set()
    for step in range(20):
        variant.before_step(step, 20)
        kept.add(int(change(torch.ones(2, 180), True)[0].sum()))
    assert kept == {54, 180}


def test_so_large_a_mean_that_all_features_are_left():
    model, variant = Ones(), Nested(mean=1e16)
    variant.attach(model)
    assert (kept(model, variant, 50)["first"] == 10).all()


def test_ordered_says_that_nobody_has_drawn_a_width():
    model, variant = MLP(widths=[8, 6]), Ordered()
    variant.attach(model)
    with pytest.raises(RuntimeError, match="before_step"):
        model(torch.rand(2, 1, 28, 28))


@pytest.mark.parametrize("widths", [[], [0.5], [0, 1], [1, 2], "all"])
def test_widths_that_are_not_allowed(widths):
    with pytest.raises(ParameterError, match="widths"):
        Ordered(widths)


@pytest.mark.parametrize("variant", [Nested(), Ordered()], ids=["nested", "ordered"])
def test_the_last_features_go_first(variant):
    model = Ones()
    variant.attach(model)
    scores = variant.scores()["feature"]
    assert scores["first"].tolist() == list(range(9, -1, -1)) and scores["second"].tolist() == list(range(5, -1, -1))
