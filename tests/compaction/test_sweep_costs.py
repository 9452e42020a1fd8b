import torch
from torch import nn

from runner.compaction.costs import measure_costs
from runner.compaction.cutting import compact
from runner.compaction.packing import save_packed
from runner.compaction.saving import stored_tensors
from runner.compaction.sweep_costs import SweepCosts, forward_arguments
from runner.data.token_batches import PairBatch
from runner.pruning.apply import prune


def test_where_filters_go_costs_are_those_of_the_cut_network(families):
    family = families["resnet"]
    model = family.build()
    costs = SweepCosts(model, lambda: family.batch(2))
    found = costs("unit", prune(model, 0.5, "unit"), True)
    built = measure_costs(compact(model, family.batch()).network, family.batch(2))
    assert found == {"flops": built.flops, "parameters": built.parameters, "bytes": built.bytes}


def test_where_weights_go_only_bytes_shrink(families, tmp_path):
    family = families["lenet"]
    model = family.build()
    whole = measure_costs(model, family.batch(2))
    costs = SweepCosts(model, lambda: family.batch(2))
    found = costs("weight", prune(model, 0.9, "weight"), False)
    assert (found["flops"], found["parameters"]) == (whole.flops, whole.parameters)
    assert found["bytes"] == save_packed(tmp_path / "packed", stored_tensors(model)) < 0.5 * whole.bytes


def test_a_network_that_fails_on_the_example_has_no_costs(caplog):
    calls = []

    class Odd(nn.Linear):
        def forward(self, x):
            calls.append(x)
            raise RuntimeError("not with these")

    model = Odd(4, 2)
    costs = SweepCosts(model, lambda: (torch.zeros(2, 4),))
    for _ in range(2):
        assert costs("unit", {}, True) == {}
    assert len(calls) == 1
    assert "not with these" in caplog.text


def test_arguments_of_forward_for_images_and_for_sentences():
    images = torch.randn(5, 1, 4, 4)
    (found,) = forward_arguments((images, torch.zeros(5)), 2)
    assert torch.equal(found, images[:2])
    source, target = torch.arange(15).view(5, 3), torch.arange(20).view(5, 4)
    first, second = forward_arguments(PairBatch(source, target), 2)
    assert torch.equal(first, source[:2])
    assert torch.equal(second, target[:2, :3])
