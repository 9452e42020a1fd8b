"""examples/other_networks.py on the smallest networks: its output, and that it would report errors."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from runner.data.torchvision_import import import_torchvision

SCRIPT = Path(__file__).parents[2] / "examples" / "other_networks.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("other_networks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["other_networks"] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["other_networks"]


@pytest.mark.parametrize(
    ("library", "architecture", "most_left"),
    [
        ("torchvision", "mobilenet_v3_small", 0.3),  # gates, depthwise convolutions
        ("timm", "mobilenetv3_small_050", 0.3),
        ("transformers", "bert", 0.8),  # the attention stays
    ],
)
def test_trains_is_cut_stored_and_gives_the_same_outputs(library, architecture, most_left, script):
    import_torchvision()  # the libraries' own import of it fails if torchvision was built for CUDA
    pytest.importorskip(library)
    (network,) = [one for one in script.NETWORKS if one.name == f"{library} {architecture}"]
    _, _, _, targeted, targeted_unit, left, agreement, _ = script.row_of(network)
    assert (targeted, targeted_unit) == ("yes", "yes")
    assert float(left.split(", ")[1]) <= most_left
    assert "DIFFERS" not in agreement
    assert all(float(value) <= 1e-5 for value in agreement.split(", "))


def test_a_difference_is_seen(script):
    torch.manual_seed(0)
    model, other = nn.Linear(4, 2), nn.Linear(4, 2)
    assert script.difference(model, other, (torch.ones(1, 4),)) > script.AGREES
    assert script.difference(model, model, (torch.ones(1, 4),)) == 0
