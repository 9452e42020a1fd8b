import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from runner.config.choices import builtin
from runner.densities import SCOPES, erk_densities
from runner.pruning.apply import prune
from runner.pruning.criteria.base import Evidence
from runner.pruning.criteria.random import Random
from runner.pruning.granularities.base import nonzero_weights
from runner.pruning.ranking import Ranking
from runner.ranking import count


def weights(seed=0):
    torch.manual_seed(seed)
    return {"a": torch.randn(5, 3, 3, 3), "b": torch.randn(4, 5, 1, 1), "c": torch.randn(7, 4)}


def members(granularity, of):
    """Return the members of a model that has only these weights."""
    model = nn.Module()
    for name, weight in of.items():
        layer = nn.Linear(1, 1)
        layer.weight = nn.Parameter(weight)
        model.add_module(name, layer)
    return builtin("granularity", granularity).members(model, list(of))


def masks(granularity, sparsity, scope="layer", of=None):
    of = of or weights()
    found = members(granularity, of)
    shapes = {name: weight.shape for name, weight in found.filters().items()}
    gone = found.masks(Ranking(found.magnitude(), scope, found.entries(), shapes).pruned(sparsity))
    return {name: gone[name].expand_as(weight) for name, weight in of.items()}


@given(st.floats(0, 1))
def test_weights_go_by_magnitude_within_each_filter(sparsity):
    for name, mask in masks("weight", sparsity).items():
        for filter_, gone in zip(weights()[name].flatten(1).numpy(), mask.flatten(1).numpy(), strict=True):
            expected = np.argsort(np.abs(filter_), kind="stable")[: count(sparsity, filter_.size)]
            assert sorted(np.flatnonzero(gone)) == sorted(expected)


@given(st.floats(0, 1))
def test_filters_go_by_norm_within_each_layer(sparsity):
    for name, mask in masks("unit", sparsity).items():
        norms = [np.sqrt((f.numpy() ** 2).sum()) for f in weights()[name]]
        expected = np.argsort(norms, kind="stable")[: count(sparsity, len(norms))]
        gone = mask.flatten(1)
        assert (gone.all(1) | ~gone.any(1)).all()
        assert sorted(gone.all(1).nonzero().flatten().tolist()) == sorted(expected)


@given(st.floats(0, 1), st.sampled_from(["uniform", "erk"]))
def test_weights_of_one_layer_are_compared(sparsity, scope):
    shapes = {name: weight.shape for name, weight in weights().items()}
    densities = erk_densities(shapes, 1 - sparsity) if scope == "erk" else dict.fromkeys(shapes, 1 - sparsity)
    for name, mask in masks("weight", sparsity, scope).items():
        flat = np.abs(weights()[name].numpy().ravel())
        expected = np.argsort(flat, kind="stable")[: count(1 - densities[name], flat.size)]
        assert sorted(np.flatnonzero(mask)) == sorted(expected)


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["weight", "unit"]), st.sampled_from(SCOPES))
def test_masks_are_nested_in_sparsity(a, b, granularity, scope):
    small, large = (masks(granularity, s, scope) for s in sorted((a, b)))
    assert not any((small[name] & ~large[name]).any() for name in small)


@given(st.floats(0, 1))
def test_global_weights_are_the_smallest_of_all(sparsity):
    joined = torch.cat([w.abs().flatten() for w in weights().values()])
    gone = torch.cat([m.flatten() for m in masks("weight", sparsity, "global").values()])
    assert gone.sum() == count(sparsity, joined.numel())
    if gone.any() and not gone.all():
        assert joined[gone].max() <= joined[~gone].min()


def test_global_filters_are_compared_by_norm_over_root_of_fan_in():
    of = {"wide": torch.full((1, 100), 1.0), "narrow": torch.full((1, 4), 2.0)}  # norms 10 and 4, but 1 and 2 per entry
    gone = masks("unit", 0.5, "global", of)
    assert gone["wide"].all()
    assert not gone["narrow"].any()


def test_random_scores_follow_their_seed_and_their_shapes():
    filters = members("unit", weights())
    one, same, other = (Random().scores(filters, Evidence(seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one[n], same[n]) and not torch.equal(one[n], other[n]) for n in one)
    assert [tuple(s.shape) for s in one.values()] == [(1, 5), (1, 4), (1, 7)]


def network(channels_last=False):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(32, 3))
    return model.to(memory_format=torch.channels_last) if channels_last else model


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("granularity", ["weight", "unit"])
def test_prune_really_zeroes_whatever_the_memory_format(channels_last, granularity):
    model, plain = network(channels_last), network()
    prune(model, 0.75, granularity)
    prune(plain, 0.75, granularity)
    for layer in (1, 2):
        assert torch.equal(model[layer].weight, plain[layer].weight)
        of = builtin("granularity", granularity).members(model, [str(layer)])
        nonzero, total = nonzero_weights(of.weights)
        assert of.sparsity() == 0.75
        assert total - nonzero == int((model[layer].weight == 0).sum()) == 0.75 * total
    assert (model[0].weight != 0).all()
    assert (model[4].weight != 0).all()


def test_a_weight_of_one_filter_or_one_entry_is_pruned_rightly():
    for shape in ((1, 6), (6, 1), (1, 1)):
        of = {"w": torch.arange(1.0, 1 + np.prod(shape)).view(shape)}
        assert masks("weight", 0.5, of=of)["w"].sum() == count(0.5, shape[1]) * shape[0]
        assert masks("unit", 0.5, of=of)["w"].sum() == count(0.5, shape[0]) * shape[1]


@pytest.mark.parametrize(
    ("arguments", "message"), [((1.5,), "sparsity=1.5"), ((0.5, "filter"), "granularity='filter'")]
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        prune(network(), *arguments)
