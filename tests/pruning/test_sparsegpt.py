"""SparseGPT compared with optimal brain surgery, written out, and with criteria that do not change weights."""

import numpy as np
import pytest
import torch
from torch import nn

from runner.config.choices import builtin
from runner.errors import UserError
from runner.pruning.criteria.base import Evidence
from runner.pruning.criteria.sparsegpt import SparseGPT
from runner.pruning.sweep import Point, Sweeper
from runner.ranking import count
from runner.tasks.classification import Classification


def network():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 12), nn.ReLU(), nn.Linear(12, 5)),
    )
    model.prunable = ["2", "4", "7"]
    return model.eval()


IMAGES = torch.randn(120, 3, 10, 10, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(5, (120,), generator=torch.Generator().manual_seed(2))


class Data:
    def augmented_batches(self, limit, seed):
        yield IMAGES[:limit], LABELS[:limit]

    def eval_batches(self, split, limit=None):
        yield IMAGES[:20], LABELS[:20]


def evidence(model):
    return Evidence({}, 0, model, Classification(), lambda limit: Data().augmented_batches(limit, 0))


def members(model, granularity="weight"):
    return builtin("granularity", granularity).members(model)


def pruned(model, sparsity, granularity="weight", scope="layer", **more):
    of = members(model, granularity)
    masks, values = SparseGPT(examples=120, **more).update(of, scope, evidence(model))(sparsity)
    return of, masks, values


def slowly(weight, inputs, sparsity, block, group=None):
    """Prune row by row, where the inverse Hessian of the remaining columns is computed again for each."""
    hessian = inputs.T @ inputs
    hessian += 0.01 * np.diag(hessian).mean() * np.eye(len(hessian))
    columns = len(hessian)
    inverses = [np.linalg.inv(hessian[c:, c:]) for c in range(columns)]
    result = weight.copy()
    for row in result:
        gone = set()
        for c in range(columns):
            width = group or block
            if c % width == 0:
                last = min(c + width, columns)
                k = count(sparsity, width) if group else count(sparsity, last) - count(sparsity, c)
                saliency = {j: row[j] ** 2 / inverses[j][0, 0] for j in range(c, last)}
                gone |= set(sorted(saliency, key=saliency.get)[:k])
            if c in gone:
                row[c:] -= row[c] / inverses[c][0, 0] * inverses[c][0]
                row[c] = 0
    return result


@pytest.mark.parametrize(
    ("granularity", "block", "group"),
    [("weight", 1, None), ("weight", 5, None), ("weight", 128, None), ("n_of_m", 8, 4)],
)
def test_it_is_optimal_brain_surgery_column_by_column(granularity, block, group):
    model = network()
    _, masks, values = pruned(model, 0.5, granularity, block=block)
    with torch.no_grad():
        inputs = model[:7](IMAGES).double().numpy()
    expected = slowly(model[7].weight.detach().double().numpy(), inputs, 0.5, block, group)
    assert torch.allclose(values["7"].double(), torch.from_numpy(expected), atol=1e-4)
    assert torch.equal(masks["7"], torch.from_numpy(expected == 0))


@torch.no_grad()
def errors_of(model, replaced):
    """Return the squared error of each layer's outputs, given its inputs in the unpruned network."""
    found = {}
    for name, weight in replaced.items():
        layer = model.get_submodule(name)
        x, own = model[: int(name)](IMAGES), layer.weight.clone()
        before = layer(x)
        layer.weight.copy_(weight)
        found[name] = float((layer(x) - before).square().sum())
        layer.weight.copy_(own)
    return found


@pytest.mark.parametrize(("granularity", "scope"), [("weight", "layer"), ("weight", "uniform"), ("n_of_m", "layer")])
def test_outputs_change_less_than_by_criteria_that_change_no_weights(granularity, scope):
    model = network()
    of, masks, values = pruned(model, 0.5, granularity, scope)
    assert all(torch.equal(values[name] == 0, masks[name]) for name in values)
    found = errors_of(model, values)
    sweeper = Sweeper(model, Classification(), Data())
    for criterion in ("magnitude", "wanda"):
        others, _ = sweeper.pruning(of, scope, criterion)(0.5)
        assert sum(int(mask.sum()) for mask in others.values()) == sum(int(mask.sum()) for mask in masks.values())
        others_error = errors_of(model, {n: of.weights[n].masked_fill(mask, 0) for n, mask in others.items()})
        assert all(found[name] < 0.9 * others_error[name] for name in found)


def test_counts_are_those_of_the_scope():
    model = network()
    for mask in pruned(model, 0.7, block=10)[1].values():
        rows = mask.flatten(1)
        assert (rows.sum(1) == count(0.7, rows.shape[1])).all()
    for name, mask in pruned(model, 0.7, scope="uniform")[1].items():
        groups = 2 if name == "4" else 1
        assert int(mask.sum()) == groups * count(0.7, mask.numel() // groups)
    for mask in pruned(model, 0.5, "n_of_m")[1].values():
        taps = mask.flatten(2) if mask.dim() > 2 else mask[..., None]
        assert (taps.transpose(1, 2).unflatten(2, (-1, 4)).sum(-1) == 2).all()


def test_zeros_stay_zero():
    model = network()
    with torch.no_grad():
        zero = {name: torch.rand_like(weight) < 0.3 for name, weight in members(model).weights.items()}
        for name, weight in members(model).weights.items():
            weight.masked_fill_(zero[name], 0)
    _, masks, values = pruned(model, 0.5)
    assert all(bool(masks[name][zero[name]].all()) and bool((values[name][zero[name]] == 0).all()) for name in zero)


@pytest.mark.parametrize(("granularity", "scope"), [("block", "layer"), ("unit", "layer"), ("weight", "global")])
def test_other_members_go_as_they_rank_and_the_rest_makes_up_for_it(granularity, scope):
    model = network()
    of, masks, values = pruned(model, 0.5, granularity, scope)
    ranked = Sweeper(model, Classification(), Data()).ranking(of, scope, "sparsegpt")
    expected = of.masks(ranked.pruned(0.5))
    assert all(torch.equal(masks[name], mask.expand_as(masks[name])) for name, mask in expected.items())
    if granularity == "block":
        plain = {name: of.weights[name].masked_fill(mask, 0) for name, mask in masks.items()}
        assert sum(errors_of(model, values).values()) < sum(errors_of(model, plain).values())


def test_a_sweep_restores_the_weights_exactly():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    points = [Point("weight", "layer", "sparsegpt", 0.0, "none", s, "test") for s in (0.0, 0.5, 0.9)]
    rows = [row for _, row in Sweeper(model, Classification(), Data()).rows(points)]
    assert [round(row["actual_sparsity"], 1) for row in rows] == [0.0, 0.5, 0.9]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_kinds_of_layers_are_named():
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Conv1d(4, 4, 3), nn.Flatten(), nn.Linear(24, 5)).eval()
    model.prunable = ["1"]
    with pytest.raises(UserError, match="'1' is a Conv1d"):
        SparseGPT().scores(members(model), evidence(model))
