"""Criteria compared with their formulas, written out for one small network."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.config.choices import builtin, names
from runner.errors import UserError
from runner.pruning.apply import prune
from runner.pruning.criteria.base import Evidence
from runner.pruning.criteria.hessian import Hessian
from runner.pruning.criteria.measured import BATCH
from runner.pruning.criteria.taylor import Taylor
from runner.pruning.criteria.wanda import Wanda
from runner.pruning.ranking import Ranking
from runner.pruning.sweep import Point, Sweeper
from runner.tasks.classification import Classification

LAYERS = ["2", "4"]


def network():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(6, 6, 3, groups=2), nn.Flatten(), nn.Linear(6 * 2 * 2, 5)),
    )
    model.prunable = LAYERS
    return model.eval()


class Data:
    """120 training images; the use of any other number would be noticed."""

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(120, 3, 10, 10, generator=generator)
        self.labels = torch.randint(5, (120,), generator=generator)

    def augmented_batches(self, limit, seed):
        yield self.images[:limit], self.labels[:limit]

    def eval_batches(self, split, limit=None):
        yield self.images[:20], self.labels[:20]


def evidence(model, seed=0):
    return Evidence({}, seed, model, Classification(), lambda limit: Data().augmented_batches(limit, 0))


def members(model, granularity):
    return builtin("granularity", granularity).members(model)


def batches(limit=120):
    data = Data()
    return zip(data.images[:limit].split(BATCH), data.labels[:limit].split(BATCH), strict=True)


def products(model, images, labels):
    """Return w ∂L/∂w for each layer."""
    layers = [model.get_submodule(name) for name in LAYERS]
    found = torch.autograd.grad(F.cross_entropy(model(images), labels), [layer.weight for layer in layers])
    return {name: (layer.weight * g).flatten(1) for name, layer, g in zip(LAYERS, layers, found, strict=True)}


@pytest.mark.parametrize(
    ("granularity", "of"), [("weight", lambda p: p.abs()), ("unit", lambda p: p.sum(1).abs()[None])]
)
def test_taylor_is_weight_times_gradient_averaged_over_batches(granularity, of):
    model = network()
    found = Taylor(examples=120).scores(members(model, granularity), evidence(model))
    for name in LAYERS:
        expected = sum(len(labels) * of(products(model, images, labels)[name]) for images, labels in batches())
        assert torch.allclose(found[name], expected, rtol=1e-4, atol=1e-7)


def test_wanda_is_weight_times_the_norm_of_its_inputs():
    model = network()
    found = Wanda(examples=120).scores(members(model, "weight"), evidence(model))
    inputs, images = {}, Data().images
    for name in LAYERS:
        inputs[name] = model[: int(name)](images)
    unfolded = F.unfold(inputs["2"], 3, stride=2, padding=1)  # (120, 36, positions)
    norms = unfolded.square().sum((0, 2)).sqrt()
    assert torch.allclose(found["2"], model[2].weight.flatten(1).abs() * norms, rtol=1e-4)
    grouped = F.unfold(inputs["4"], 3).square().sum((0, 2)).sqrt().view(2, 27)  # each group of filters reads half
    expected = model[4].weight.flatten(1).abs() * grouped.repeat_interleave(3, dim=0)
    assert torch.allclose(found["4"], expected, rtol=1e-4)
    filters = Wanda(examples=120).scores(members(model, "unit"), evidence(model))
    assert torch.allclose(filters["4"], expected.norm(dim=1)[None], rtol=1e-4)


def test_wanda_sees_what_attention_projects_and_says_what_it_does_not_see():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.logits = attention, nn.Linear(8, 3)

        def forward(self, x):
            return self.logits(self.attention(x, x, 2 * x)[0].mean(1))

    model = Model().eval()
    model.prunable = ["attention.in_proj_weight"]
    x = torch.randn(10, 4, 8)
    seen = Evidence({}, 0, model, Classification(), lambda limit: iter([(x, torch.zeros(10, dtype=torch.long))]))
    found = Wanda().scores(members(model, "weight"), seen)["attention.in_proj_weight"]
    norms = x.flatten(0, 1).norm(dim=0)
    expected = attention.in_proj_weight.abs() * torch.stack([norms, norms, 2 * norms]).repeat_interleave(8, dim=0)
    assert torch.allclose(found, expected, rtol=1e-5)
    model.prunable = ["attention.out_proj"]
    with pytest.raises(UserError, match=r"input of layer 'attention.out_proj' is not observed"):
        Wanda().scores(members(model, "weight"), seen)


@pytest.mark.parametrize(("granularity", "of"), [("weight", lambda p: p), ("unit", lambda p: p.sum(1)[None])])
def test_hessian_is_half_the_squared_weight_times_the_curvature(granularity, of):
    model = network()
    found = Hessian(examples=120).scores(members(model, granularity), evidence(model))
    data = Data()
    singles = zip(data.images.split(1), data.labels.split(1), strict=True)
    rows = [products(model, image, label) for image, label in singles]
    for name in LAYERS:
        expected = torch.stack([row[name] for row in rows]).square().mean(0) / 2
        assert torch.allclose(found[name], of(expected), rtol=1e-4)


def test_the_fisher_information_stands_for_the_hessian():
    """Summed over filters, at a random initialization, with an error of less than a tenth of the whole."""
    model = network()
    images, labels, weight = Data().images, Data().labels, model[4].weight

    def loss(w):
        return F.cross_entropy(torch.func.functional_call(model, {"4.weight": w.view_as(weight)}, (images,)), labels)

    diagonal = torch.autograd.functional.hessian(loss, weight.detach().flatten()).diagonal()
    expected = (weight.detach().flatten().square() * diagonal / 2).view(6, -1).sum(1)
    found = Hessian(examples=120).scores(members(model, "unit"), evidence(model))["4"][0]
    assert (found - expected).abs().max() < 0.1 * expected.sum()


def test_fpgm_is_the_distance_to_the_other_filters():
    model = network()
    found = builtin("criterion", "fpgm").scores(members(model, "unit"), Evidence())
    filters = model[2].weight.detach().flatten(1)
    expected = torch.stack([sum((one - other).norm() for other in filters) for one in filters])
    assert torch.allclose(found["2"][0], expected)
    with pytest.raises(UserError, match="compares whole filters"):
        builtin("criterion", "fpgm").scores(members(model, "weight"), Evidence())


def test_lamp_follows_its_formula_and_leaves_every_layer_a_weight():
    model = network()
    with torch.no_grad():
        model[2].weight.mul_(1e-6)
    weights = members(model, "weight")
    found = builtin("criterion", "lamp").scores(weights, Evidence())
    squares = model[4].weight.detach().double().square().flatten()
    expected = torch.stack([one / squares[squares >= one].sum() for one in squares])
    assert torch.allclose(found["4"].flatten(), expected)
    gone = Ranking(found, "global").pruned(0.99)
    assert not gone["2"].all() and not gone["4"].all()
    assert Ranking(weights.magnitude(), "global").pruned(0.6)["2"].all()


@pytest.mark.parametrize("criterion", [name for name in names("criterion") if name != "fpgm"])
@pytest.mark.parametrize("granularity", ["weight", "unit"])
def test_every_criterion_sweeps_and_leaves_the_network_as_it_was(criterion, granularity):
    model = network()
    before = copy.deepcopy(model.state_dict())
    point = Point(granularity, "global", criterion, 0.0, "none", 0.5, "test")
    rows = dict(Sweeper(model, Classification(), Data()).rows([point]))
    assert 0.4 < rows[point]["actual_sparsity"] < 0.6
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(not parameter.grad for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_scores_are_of_training_data_alone():
    """A sweep on the test split with reversed labels prunes the same weights."""

    class Turned(Data):
        def eval_batches(self, split, limit=None):
            for images, labels in super().eval_batches(split, limit):
                yield -images, 4 - labels

    chosen = []
    for data in (Data(), Turned()):
        model = network()
        point = Point("weight", "layer", "taylor", 0.0, "none", 0.5, "test")
        with Sweeper(model, Classification(), data).pruned(point):
            chosen.append(model[2].weight.detach().clone())
    assert torch.equal(*chosen)


def own_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
    inputs = torch.randn(40, 6)
    return model, [(inputs[:25], torch.arange(25) % 3), (inputs[25:], torch.arange(15) % 3)]


@pytest.mark.parametrize("name", ["wanda", "taylor", "hessian", "sparsegpt"])
def test_a_model_of_ones_own_is_pruned_by_a_criterion_that_looks_at_data(name):
    model, batches = own_network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    by_magnitude = prune(copy.deepcopy(model), 0.5)["2"]
    masks = prune(model, 0.5, criterion=name, batches=batches)
    assert list(masks) == ["0", "2"] and masks["2"].sum() == 8 * 4 and model[2].weight[masks["2"]].eq(0).all()
    assert not torch.equal(masks["2"], by_magnitude)
    kept = model[2].weight[~masks["2"]]
    assert torch.equal(kept, before["2.weight"][~masks["2"]]) == (name != "sparsegpt")
    assert all(module.training for module in model.modules())
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in before if key.endswith("bias"))


def test_of_ones_own_data_as_many_examples_are_seen_as_the_criterion_asks_for():
    model, batches = own_network()
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    prune(model, 0.5, criterion=Taylor(examples=30), batches=batches, loss=lambda out, labels: out.square().mean())
    assert seen == [25, 5]


def test_a_criterion_that_looks_at_data_says_that_it_has_none():
    model, _ = own_network()
    with pytest.raises(UserError, match="training data"):
        prune(model, 0.5, criterion="wanda")
    with pytest.raises(ValueError, match="criterion"):
        prune(model, 0.5, criterion="wnada")
    assert all(model[i].weight.all() for i in (0, 2))


def test_no_more_batches_are_read_than_a_criterion_asks_for():
    model, batches = own_network()
    drawn = []

    def endless():
        while True:
            drawn.append(1)
            yield list(batches[0])

    prune(copy.deepcopy(model), 0.5, batches=endless())
    assert not drawn
    prune(model, 0.5, criterion=Taylor(examples=60), batches=endless())
    assert len(drawn) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "hessian", "batches": []}, "batches"),
        ({"criterion": "wanda", "batches": iter(())}, "batches"),
        ({"criterion": "taylor", "batches": [{"x": 1, "y": 2}]}, "batches"),
        ({"criterion": "taylor", "batches": [torch.zeros(3)]}, "batches"),
        ({"criterion": "wanda", "batches": [], "scores": {}}, "criterion"),
        ({"granularity": "n_of_m", "scope": "global"}, "scope"),
    ],
)
def test_what_a_program_of_ones_own_may_get_wrong(options, message):
    model, _ = own_network()
    with pytest.raises(ValueError, match=message):
        prune(model, 0.5, **options)


@pytest.mark.parametrize("criterion", ["wanda", "taylor", "hessian"])
def test_pruning_again_removes_the_same_weights(criterion):
    """Weights that read inputs of zero have the score of weights that are zero."""
    model, batch = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(64, 16)
    batch[:, :8] = 0
    labels = torch.randint(3, (64,))
    first = prune(model, 0.5, layers=["0"])["0"]
    again = prune(model, 0.5, layers=["0"], criterion=criterion, batches=[(batch, labels)])["0"]
    assert torch.equal(first, again)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_wanda_in_other_dtypes(dtype):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)).to(dtype)
    batches = [(torch.randn(4, 3, 4, 4, dtype=dtype), torch.tensor([0, 1, 0, 1]))]
    assert prune(model, 0.5, layers=["0"], criterion="wanda", batches=batches)["0"].any()
