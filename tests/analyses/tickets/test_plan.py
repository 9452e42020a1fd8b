"""Masks, the trainings made from them, and what distinguishes two trainings."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from runner.analyses.tickets.plan import Ticket, removed, rounds
from runner.config.compose import Composer
from runner.config.identity import identity
from runner.models.mlp import MLP
from runner.pruning.sweep import Sweeper

TICKET = Ticket("ticket", "weight", 0.9, "magnitude")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3), nn.Flatten(), nn.Linear(40, 20), nn.Linear(20, 5))


def sweeper(model, own_scores, seed):
    """A sweeper without task and data, which magnitudes do not need."""
    return Sweeper(model, None, None, own_scores=own_scores, seed=seed)


@pytest.fixture(scope="module")
def config():
    return {**Composer("train").single(["dropout=targeted", "data=digits", "seed=4"]), "precision": "float32"}


def test_a_random_mask_leaves_as_much_in_every_filter():
    model = network()
    own, random = (removed(sweeper(model, {}, 1), replace(TICKET, scores=scores)) for scores in ("magnitude", "random"))
    for name, mask in own.items():
        assert torch.equal(mask.flatten(1).sum(1), random[name].flatten(1).sum(1))
        assert not torch.equal(mask, random[name])
    assert own["1"].flatten(1).sum(1).tolist() == [64] * 10  # floor(0.9 * 72)
    other = removed(sweeper(model, {}, 2), replace(TICKET, scores="random"))
    assert not torch.equal(random["1"], other["1"])


def test_units_go_whole_and_own_scores_rank():
    model = network()
    unit = replace(TICKET, granularity="unit", sparsity=0.5)
    smallest = model[1].weight.flatten(1).norm(dim=1).argsort()[:5]
    assert removed(sweeper(model, {}, 0), unit)["1"].flatten().nonzero().flatten().tolist() == sorted(smallest.tolist())
    own = {"unit": {"1": torch.arange(10.0), "3": torch.arange(20.0)}}
    assert (
        removed(sweeper(model, own, 0), replace(unit, scores="own"))["1"].flatten().tolist() == [True] * 5 + [False] * 5
    )
    # The run has no own scores for units.
    other = removed(sweeper(model, {"weight": {}}, 0), replace(unit, scores="own"))
    assert torch.equal(other["1"], removed(sweeper(model, {}, 0), unit)["1"])


def test_features_go_with_what_makes_and_what_reads_them():
    model = MLP(channels=1, image_size=8, classes=10, widths=[6, 4])
    masks = removed(sweeper(model, {}, 0), replace(TICKET, granularity="feature", sparsity=0.5))
    consumer, producer = "logits", "hidden.2"
    assert masks[consumer].all(0).sum() == masks[producer].all(1).sum() == 2
    with pytest.raises(ValueError, match="declares no feature places"):
        removed(sweeper(network(), {}, 0), replace(TICKET, granularity="feature"))


@pytest.mark.parametrize(("sparsity", "n"), [(0.9, 5), (0.29, 3), (0.99, 1), (0.0, 2), (1.0, 2)])
def test_rounds_remove_the_same_fraction_each_and_end_where_asked(sparsity, n):
    plan = rounds(replace(TICKET, sparsity=sparsity), n)
    assert [one.round for one in plan] == list(range(1, n + 1))
    assert plan[-1].sparsity == sparsity
    left = [1.0, *(1 - one.sparsity for one in plan)]
    assert all(b == pytest.approx((1 - sparsity) ** (1 / n) * a, abs=1e-8) for a, b in pairwise(left))
    assert [one.scores for one in plan] == ["magnitude", *["own"] * (n - 1)]
    assert len({one.name for one in plan}) == n


def test_a_configuration_is_the_runs_with_another_dropout(config):
    made = replace(TICKET, rewind=7).config(config, "targeted-1a2b3c4d")
    assert made["dropout"] == {
        "name": "targeted-ticket",
        "_target_": "runner.dropout.masked.Masked",
        "source": "targeted-1a2b3c4d",
        "granularity": "weight",
        "sparsity": 0.9,
        "scores": "magnitude",
        "weights": "rewound",
        "rewind": 7,
        "round": 1,
    }
    assert made["prune"]["sparsities"] == [0.9]
    same = [key for key in config if key not in ("dropout", "prune", "folder")]
    assert {key: made[key] for key in same} == {key: config[key] for key in same}
    tuned = replace(TICKET, weights="final", length="3ep", rate=0.1).config(config, "x")["schedule"]
    assert tuned == {**config["schedule"], "length": "3ep", "learning_rate": 0.02}
    assert config["schedule"]["length"] == "50ep"


def test_a_random_mask_on_initial_weights_is_nobodys(config):
    random = replace(TICKET, name="random", scores="random")
    other = {**config, "dropout": {"name": "none", "_target_": "runner.dropout.base.Variant"}}
    assert identity(random.config(config, "a")) == identity(random.config(other, "b"))
    for one in (replace(random, rewind=3), replace(random, weights="final")):
        assert identity(one.config(config, "a")) != identity(one.config(config, "b"))


@pytest.mark.parametrize(
    "change",
    [
        *({"granularity": "unit"}, {"sparsity": 0.8}, {"scores": "own"}, {"weights": "fresh"}, {"rewind": 1}),
        *({"round": 2}, {"length": "3ep"}, {"rate": 0.5}),
    ],
)
def test_identity_is_of_what_makes_the_weights(config, change):
    made = identity(TICKET.config(config, "a"))
    assert identity(replace(TICKET, **change).config(config, "a")) != made
    assert identity(TICKET.config(config, "b")) != made
    moved = {**config, "folder": "x", "outputs": "y", "seed": 5, "data": {**config["data"], "root": "z"}}
    assert identity(TICKET.config(moved, "a")) == made
