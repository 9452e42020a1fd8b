import pytest
import torch
from safetensors.torch import save
from torch import nn

from runner.compaction.costs import count_flops, file_bytes, measure_costs, peak_bytes, planned_costs
from runner.compaction.cutting import compact
from runner.compaction.planning import make_plan, masked_zeros
from runner.compaction.proof import prove
from runner.compaction.saving import stored_tensors
from runner.compaction.tracing import find_coupling
from runner.pruning.apply import apply_masks, prune


@pytest.mark.parametrize("granularity, sparsity", [("unit", 0), ("unit", 0.75), ("feature", 0.5)])
def test_what_masks_would_leave_is_what_cutting_leaves(family, sparsity, granularity):
    whole, model = family.build(), family.build()
    masks = prune(model, sparsity, granularity)
    coupling = find_coupling(whole, family.batch(2))
    planned = planned_costs(whole, coupling, make_plan(coupling, masked_zeros(coupling, masks), constants=False))
    built = measure_costs(compact(model, family.batch()).network, family.batch(2))
    assert (planned.parameters, planned.flops, planned.bytes) == (built.parameters, built.flops, built.bytes)


def test_convolutions_and_matrices_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5))
    costs = measure_costs(network, (torch.randn(4, 3, 8, 8),))
    assert costs.flops == 2 * (3 * 8 * 9 * 16 + 8 * 16 * 5)
    assert costs.parameters == costs.nonzero == 3 * 8 * 9 + 8 + 8 * 16 * 5 + 5
    assert costs.bytes == len(save(network.state_dict()))


def test_attention_on_a_processor_by_hand(families):
    family = families["transformer"]
    model = family.build()  # one layer of each kind, 32 features, 64 hidden features, 40 tokens
    source, target = (part.shape[1] for part in family.batch())
    linear = source * (4 * 32 * 32 + 2 * 32 * 64) + target * (6 * 32 * 32 + 2 * 32 * 64 + 32 * 40)
    linear += 2 * source * 32 * 32  # keys and values for the attended tokens
    attention = 2 * 32 * (source * source + target * target + target * source)
    for examples in (1, 3):
        assert count_flops(model, family.batch(examples)) == examples * 2 * (linear + attention)


def test_counting_leaves_the_mode(families):
    model = families["mlp"].build().train()
    count_flops(model, families["mlp"].batch())
    assert model.training


def test_bytes_of_a_file(family):
    tensors = stored_tensors(family.build())
    assert file_bytes({name: tuple(t.shape) for name, t in tensors.items()}) == len(save(tensors))


def test_peak_memory_by_hand():
    network = nn.Sequential(nn.Linear(10, 1000), nn.ReLU(), nn.Linear(1000, 10, bias=False))
    x = torch.randn(8, 10)
    parameters = 10 * 1000 + 1000 + 1000 * 10
    # While ReLU is computed, both its input and its output are in memory.
    assert peak_bytes(network, (x,)) == 4 * (parameters + 2 * 8 * 1000)


def test_peak_memory_shrinks_with_the_network(families):
    family = families["vgg"]
    model = family.build()
    prune(model, 0.75, "unit")
    assert peak_bytes(compact(model, family.batch()).network, family.batch()) < peak_bytes(model, family.batch())


def test_a_proof_fails_where_networks_differ(families):
    family = families["mlp"]
    model = family.build()
    other = family.build()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert prove(model, other, [family.batch()], count).holds
    assert prove(model, other, [family.batch()], count).relative == 0
    assert not prove(model, other, [family.batch()], count + 1).holds
    with torch.no_grad():
        other.logits.bias[0] += 1e-3
    proof = prove(model, other, [family.batch()], count)
    assert not proof.holds
    assert proof.absolute == pytest.approx(1e-3, rel=1e-2)
    other.logits.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        prove(model, other, [family.batch()], count)
    with pytest.raises(ValueError, match="no batch"):
        prove(model, model, [], count)


def test_masks_of_single_weights_remove_only_what_is_wholly_zero(families):
    family = families["mlp"]
    model = family.build()
    weights = {"hidden.0": model.hidden[0].weight, "hidden.2": model.hidden[2].weight}
    masks = {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    masks["hidden.0"][3] = True  # a whole filter
    masks["hidden.0"][4, 1:] = True  # not quite
    masks["hidden.2"][:, 7] = True  # a feature that no filter reads
    coupling = find_coupling(model, family.batch())
    plan = make_plan(coupling, masked_zeros(coupling, masks), constants=False)
    assert len(plan.outputs["hidden.0"]) == len(model.hidden[0].weight) - 2
    apply_masks(weights, {name: weight.detach().clone() for name, weight in weights.items()}, masks)
    assert len(compact(model, family.batch()).network.hidden[0].weight) == len(plan.outputs["hidden.0"])
