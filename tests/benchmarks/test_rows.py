import pytest
import torch
from torch import nn

from runner.benchmarks.configurations import Configurations
from runner.benchmarks.rows import ROWS, step_flops, sweep_points
from runner.benchmarks.setup import Setup, late_training, on_one_batch, one_step
from runner.benchmarks.sorting import SortingTargeted
from runner.benchmarks.translation import TorchTransformer, model_of, random_pairs
from runner.dropout.base import Variant
from runner.ranking import count

TINY = ["model.width=0.125", "model.blocks=1", "schedule.batch_size=4", "images.train=24", "images.test=6"]
TINY += ["images.size=8", "precision=float32", "device=cpu"]
CALLS = 5


@pytest.fixture
def made():
    """The parts that a row has requested, in order."""
    return []


@pytest.fixture
def setup(made):
    configurations = Configurations(TINY, None)

    def parts(*more):
        made.append(configurations.parts(*more))
        return made[-1]

    return Setup(parts, ["targeted", "ramping", "targeted_unit"], CALLS)


def test_steps_are_of_each_dropout_over_none_and_of_targeted_over_sorting(setup, made):
    names = []
    for comparison in ROWS["step"](setup):
        variant, against = made[-2].variant, made[-1].variant
        names.append((comparison.name, comparison.against, comparison.target))
        assert comparison.a() == comparison.b() == 4  # examples
        if comparison.against == "step, none":
            assert type(against) is Variant
        else:
            assert isinstance(against, SortingTargeted)
            assert (against.alpha, against.gamma) == (0.66, 0.75)
        if comparison.name == "step, ramping":
            assert (variant.rates.alpha, variant.rates.gamma) == (0.99, 0.99)
    assert names == [
        ("step, targeted", "step, none", 1.05),
        ("step, ramping", "step, none", 1.05),
        ("step, targeted_unit", "step, none", 1.05),
        ("step, targeted", "step, sorting each layer", 1.0),
    ]


def test_steps_hardly_change_the_weights(setup):
    parts = setup.parts()
    before = {name: p.detach().clone() for name, p in parts.model.named_parameters()}
    step = one_step(on_one_batch(late_training(parts)))
    for _ in range(CALLS):
        step()
    moved = [(p - before[name]).abs().max() for name, p in parts.model.named_parameters()]
    assert 0 < max(moved) < 1e-3


def test_data_comes_from_the_pipeline_on_one_side_only(setup, made):
    (comparison,) = ROWS["data"](setup)
    seen = {}
    for side, parts in zip("ab", made, strict=True):
        parts.model.register_forward_pre_hook(lambda _, inputs, side=side: seen.setdefault(side, []).append(inputs[0]))
    for _ in range(3):
        comparison.a()
        comparison.b()
    assert not torch.equal(seen["a"][0], seen["a"][1])
    assert torch.equal(seen["b"][0], seen["b"][1])
    assert seen["a"][0].shape == seen["b"][0].shape == (4, 3, 8, 8)
    assert comparison.higher_is_better
    assert comparison.work == (4, 4)
    assert comparison.target == 0.95


def test_sweep_points_prune_more_and_more_by_one_ranking(setup):
    parts = setup.parts()
    point = sweep_points(parts.sweeper({}), CALLS)
    filters = [w.flatten(1) for name, w in parts.model.named_parameters() if name.startswith("blocks") and w.dim() == 4]
    total = sum(w.numel() for w in filters)
    for i in range(CALLS):
        asked, row = point()
        assert asked.sparsity == i / CALLS
        gone = sum(len(w) * count(asked.sparsity, w.shape[1]) for w in filters)
        assert row["nonzero_weights"] == total - gone
        assert row["examples"] == 6


def test_the_sweep_row_passes_the_same_images(setup, made):
    (comparison,) = ROWS["sweep"](setup)
    seen = []
    made[0].model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    comparison.a()
    comparison.b()
    assert torch.equal(seen[0], seen[1])
    assert len(seen) == 2
    assert comparison.target == 1.10


def test_the_bare_forward_pass_is_of_the_model_in_evaluation(setup, made):
    (comparison,) = ROWS["sweep"](setup)
    before = {name: value.clone() for name, value in made[0].model.state_dict().items()}
    comparison.b()
    assert all(torch.equal(before[name], value) for name, value in made[0].model.state_dict().items())


def test_flops_of_a_step_are_those_of_its_matrix_products(setup):
    parts = setup.parts()
    forward = {}

    def count_flops(name, module, output):
        inputs = module.weight[0].numel()
        forward[name] = 2 * output.numel() * inputs

    for name, module in parts.model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda m, _, output, name=name: count_flops(name, m, output))
    training = on_one_batch(late_training(parts))
    # The backward pass needs the same number for the weights and for the inputs, except the inputs of the stem.
    counted = step_flops(training)
    assert counted == 3 * sum(forward.values()) - forward["stem"]


def test_the_share_is_of_a_product_in_the_same_precision(setup):
    (comparison,) = ROWS["matmul"](setup)
    assert comparison.against == "float32 matrix product, 2048"
    assert comparison.work[1] == 2 * 2048**3
    assert comparison.a() == 4
    assert comparison.target is None
    product = comparison.b()
    assert (product.shape, product.dtype) == ((2048, 2048), torch.float32)


def test_our_transformer_and_pytorchs_have_as_many_parameters_and_learn_on_the_same_batch(setup):
    ours, heads, dropout = model_of("model=transformer")
    theirs = TorchTransformer(ours, heads, dropout)
    # PyTorch's Transformer has the same matrices; its packed projections hold the same weights and biases.
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())
    batch = random_pairs()
    assert len(batch) == 160
    for model in (ours.eval(), theirs.eval()):
        with torch.no_grad():
            assert model(batch.source[:2], batch.target[:2, :-1]).shape == (2, 25, 8000)


def test_random_pairs_end_and_are_padded():
    batch = random_pairs()
    for row in torch.cat([batch.source, batch.target[:, 1:]]).tolist():
        end = row.index(2)
        assert min(row[:end]) > 2
        assert set(row[end + 1 :]) <= {0}
    assert int((batch.target[:, 1:] != 0).sum(1).max()) == 25
