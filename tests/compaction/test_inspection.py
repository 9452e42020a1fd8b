"""run inspect before any training, and agreement of its predictions with cutting."""

import torch
import torch.nn.functional as F
from torch import nn

from runner.compaction.cutting import compact
from runner.compaction.inspection import inspect_network
from runner.config import choices
from runner.pruning.apply import prune


class Net(nn.Module):
    """A residual sum, a depthwise convolution, a shared weight and a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Linear(8, 3)
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.wide = nn.Conv2d(8, 16, 1, bias=False)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.narrow = nn.Conv2d(16, 8, 1, bias=False)
        self.first, self.second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.narrow(F.relu(self.depthwise(F.relu(self.wide(x)))))
        return self.logits(self.second(F.relu(self.first(x.mean((2, 3))))))


def inspected(sparsity=0.5):
    torch.manual_seed(0)
    model = Net().eval()
    return model, inspect_network(model, (torch.rand(2, 1, 4, 4),), sparsity, choices.builtin("granularity", "unit"))


def test_layers_in_order_of_computation_with_reasons():
    _, found = inspected()
    rows = {one.layer: one for one in found.layers}
    assert [*rows] == ["stem", "wide", "depthwise", "narrow", "first", "second", "logits", "unused"]
    assert {name: row.why_not for name, row in rows.items() if not row.prunable} == {
        "stem": "the first convolution",
        "logits": "produces the output",
    }
    assert rows["wide"].flops == 2 * 16 * 8 * 16
    assert rows["depthwise"].flops == 2 * 16 * 9 * 16
    assert (rows["logits"].parameters, rows["logits"].flops) == (27, 2 * 8 * 3)
    assert found.notes == ["share one weight: first, second"]
    assert "a weight that belongs to no layer" in rows["narrow"].stays
    assert rows["unused"].stays == "not used in forward"
    assert rows["first"].stays == "not followed by the trace, not cut"


def test_groups_are_what_goes_together():
    _, found = inspected()
    assert [*found.groups.values()] == [["wide", "depthwise"]]  # the shared weight reads the sum, so the sum stays


def test_the_saving_is_what_cutting_saves():
    model, found = inspected()
    whole = found.parameters
    prune(model, 0.5, "unit", example=torch.rand(2, 1, 4, 4))
    result = compact(model, (torch.rand(2, 1, 4, 4),))
    left = sum(parameter.numel() for parameter in result.network.parameters())
    assert found.parameters_left == left < whole
    assert result.network.second.weight is result.network.first.weight
    for row in found.layers:
        module = result.network.get_submodule(row.layer)
        assert row.parameters_left == sum(p.numel() for p in module.parameters()), row.layer
