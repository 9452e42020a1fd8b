"""Elastic files: one network that loads at any width."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import runner
from runner.compaction.elastic import (
    ELASTIC,
    Elastic,
    interpolated,
    load_elastic,
    load_network,
    load_statistics,
    narrowed,
    save_elastic,
)
from runner.compaction.elastic import statistics_of as statistics
from runner.errors import ConfigError, DamagedRun
from runner.models.mlp import MLP
from runner.models.resnet import ResNet
from runner.models.transformer import Transformer

WIDTHS = (0.25, 0.6, 1.0)
RESNET = ("runner.models.resnet.ResNet", {"channels": 3, "image_size": 16, "classes": 5, "blocks": 1, "width": 0.5})
FRESH = """
import json, sys, torch, runner
for width in json.loads(sys.argv[2]):
    torch.manual_seed(0)
    print(runner.load_compact(sys.argv[1], width=width)(torch.rand(3, 3, 16, 16)).flatten().tolist())
"""


def with_statistics(network, example, order, widths):
    """Measure BatchNorm at each width on random images."""
    found = {}
    for width in widths:
        narrow = narrowed(network, order, width).train()
        for module in narrow.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # an average, so that removed features have no variance
        for _ in range(3):
            narrow(torch.rand_like(example))
        found[width] = statistics(narrow.eval())
    return found


@pytest.fixture
def elastic():
    torch.manual_seed(3)
    network = ResNet(**RESNET[1]).eval()
    example = torch.rand(4, 3, 16, 16)
    order = {
        place.consumer: torch.randperm(network.get_submodule(place.consumer).in_channels)
        for place in network.feature_places
    }
    return Elastic(network, order, with_statistics(network, example, order, WIDTHS), [((4, 3, 16, 16), torch.float32)])


def test_ten_random_widths_in_a_fresh_process(elastic, tmp_path):
    save_elastic(tmp_path / ELASTIC, elastic, *RESNET)
    generator = torch.Generator().manual_seed(1)
    widths = [0.0137, 1.0, *torch.rand(8, generator=generator).tolist()]
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path), json.dumps(widths)], capture_output=True, text=True, check=True
    )
    torch.manual_seed(0)
    images = torch.rand(3, 3, 16, 16)
    for width, line in zip(widths, done.stdout.splitlines(), strict=True):
        whole = narrowed(elastic.network, elastic.order, width)
        load_statistics(whole, interpolated(elastic.statistics, width))
        expected = whole(images).flatten().detach()
        assert torch.allclose(torch.tensor(json.loads(line)), expected, rtol=0, atol=float(1e-5 * expected.abs().max()))


@pytest.mark.parametrize("fold", [True, False])
def test_batch_norm_is_folded_as_it_was_when_the_file_was_proved(elastic, fold, tmp_path):
    save_elastic(tmp_path / ELASTIC, replace(elastic, fold=fold), *RESNET)
    network = load_network(tmp_path, 0.5)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert (norms < sum(isinstance(module, nn.BatchNorm2d) for module in elastic.network.modules())) == fold


def test_of_n_features_the_first_ceil_of_width_n_are_left(elastic):
    result = elastic.at(0.3)
    for name, features in elastic.order.items():
        count = len(features)
        assert result.network.get_submodule(name).in_channels == -(-3 * count // 10)
        gone = result.reference.get_submodule(name).weight.flatten(2).abs().sum((0, 2)) == 0
        assert set(gone.nonzero().flatten().tolist()) == set(features[-(-3 * count // 10) :].tolist())


def test_between_two_widths_statistics_are_between():
    low = {"bn.running_mean": torch.tensor([1.0, 0.0]), "bn.running_var": torch.tensor([2.0, 0.0])}
    high = {"bn.running_mean": torch.tensor([3.0, 5.0]), "bn.running_var": torch.tensor([6.0, 7.0])}
    found = interpolated({0.5: low, 1.0: high}, 0.75)
    assert found["bn.running_mean"].tolist() == [2.0, 5.0], "the second channel is not in the narrower network"
    assert found["bn.running_var"].tolist() == [4.0, 7.0]
    assert interpolated({0.5: low, 1.0: high}, 0.1) == low
    assert interpolated({0.5: low, 1.0: high}, 1.0) == high
    assert interpolated({0.5: low, 1.0: high}, 0.5) == low
    assert interpolated({}, 0.5) == {}


def test_networks_without_batch_norm_and_of_tokens(tmp_path):
    torch.manual_seed(0)
    arguments = {"channels": 1, "image_size": 4, "classes": 3, "widths": [12, 8]}
    mlp = MLP(**arguments).eval()
    order = {
        place.consumer: torch.arange(mlp.get_submodule(place.consumer).in_features) for place in mlp.feature_places
    }
    save_elastic(
        tmp_path / "a" / ELASTIC,
        Elastic(mlp, order, {}, [((2, 1, 4, 4), torch.float32)]),
        "runner.models.mlp.MLP",
        arguments,
    )
    images = torch.rand(3, 1, 4, 4)
    assert torch.allclose(load_network(tmp_path / "a", 0.5)(images), narrowed(mlp, order, 0.5)(images), atol=1e-6)
    assert torch.allclose(load_network(tmp_path / "a")(images), mlp(images), atol=1e-6)

    arguments = {"vocabulary": 20, "layers": 1, "features": 16, "heads": 2, "feed_forward": 24}
    pair = Transformer(**arguments).eval()
    order = {
        place.consumer: torch.arange(pair.get_submodule(place.consumer).in_features) for place in pair.feature_places
    }
    inputs = [((2, 6), torch.int64), ((2, 5), torch.int64)]
    save_elastic(
        tmp_path / "b" / ELASTIC, Elastic(pair, order, {}, inputs), "runner.models.transformer.Transformer", arguments
    )
    words = torch.randint(3, 20, (3, 7)), torch.randint(3, 20, (3, 4))
    small = load_network(tmp_path / "b", 0.5)
    assert torch.allclose(small(*words), narrowed(pair, order, 0.5)(*words), atol=1e-5)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in pair.parameters())


def test_a_channel_that_is_gone_but_emits_a_constant_has_the_wider_networks_statistics():
    norm = torch.nn.BatchNorm1d(3)
    norm.running_var.copy_(torch.tensor([1e-12, 2.0, 3.0]))
    norm.running_mean.copy_(torch.tensor([0.7, 0.5, 0.4]))
    with torch.no_grad():
        norm.weight[0] = norm.bias[0] = 0
    low = statistics(norm)
    assert low[".running_var"].tolist() == [0.0, 2.0, 3.0] and low[".running_mean"].tolist()[0] == 0
    high = {".running_var": torch.tensor([4.0, 4.0, 3.0]), ".running_mean": torch.tensor([1.0, 0.5, 0.4])}
    assert interpolated({0.5: low, 1.0: high}, 0.75)[".running_var"].tolist() == [4.0, 3.0, 3.0]


def test_so_small_a_width_that_one_feature_is_left(elastic):
    result = elastic.at(1e-11)
    for name in elastic.order:
        assert result.network.get_submodule(name).in_channels == 1
        assert result.reference.get_submodule(name).weight.flatten(2).abs().sum((0, 2)).count_nonzero() == 1


def test_a_file_of_another_name(elastic, tmp_path):
    save_elastic(tmp_path / "resnet.safetensors", elastic, *RESNET)
    small, whole = (load_network(tmp_path / "resnet.safetensors", width) for width in (0.5, None))
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in whole.parameters())


def rewritten(file, change, **about):
    """Rewrite the file with other tensors or other metadata."""
    tensors = load_file(file)
    change(tensors)
    from safetensors import safe_open

    with safe_open(file, framework="pt") as stored:
        known = json.loads(stored.metadata()["elastic"])
    save_file(tensors, file, metadata={"elastic": json.dumps({**known, **about})})


@pytest.mark.parametrize(
    ("change", "about", "message"),
    [
        (lambda t: None, {"widths": [0.5, 0.25, 1.0]}, "widths: expected rising numbers"),
        (lambda t: None, {"widths": ["a"]}, "widths: expected rising numbers"),
        (lambda t: None, {"widths": [0.25, 0.6, 0.9]}, "widths: expected 1 among them"),
        (lambda t: None, {"inputs": [[[2, 3, 16, 16], ["float32"]]]}, "inputs: expected shapes and types"),
        (lambda t: None, {"inputs": [[[], "float32"]]}, "inputs: expected shapes and types"),
        (lambda t: None, {"inputs": [[[1, 3, 16, 16], "float32"]]}, "inputs: expected shapes and types"),
        (lambda t: None, {"inputs": [[[2, 3, 512, 512], "float32"]] * 5}, "inputs: expected shapes and types"),
        (lambda t: None, {"inputs": [[[2, 7, 16, 16], "float32"]]}, "can't be computed"),
        (lambda t: None, {"inputs": [[[2, 3, 16, 16], "int64"]]}, "can't be computed"),
        (lambda t: None, {"inputs": [[[2, 3, 16, 16], "float32"]] * 2}, "can't be computed"),
        (lambda t: None, {"format": 2}, "expected an elastic file of format 1"),
        (lambda t: None, {"inputs": [[[2, 3, 10**9, 16], "float32"]]}, "inputs: expected shapes and types"),
        (lambda t: None, {"inputs": "os.system"}, "inputs: expected shapes and types"),
        (
            lambda t: _drop(t, "statistics.1"),
            {},
            "statistics of",
        ),
        (lambda t: _set(t, "order."), {}, "each of"),
        (lambda t: _drop(t, "order."), {}, "order of the features"),
        (lambda t: _drop(t, "network."), {}, "is missing"),
    ],
)
def test_what_is_damaged_or_odd_is_named(elastic, tmp_path, change, about, message):
    file = tmp_path / ELASTIC
    save_elastic(file, elastic, *RESNET)
    rewritten(file, change, **about)
    with pytest.raises(DamagedRun, match=message):
        load_elastic(file)


def _drop(tensors, prefix):
    names = [name for name in tensors if name.startswith(prefix)]
    for name in names if prefix == "order." else names[:1]:
        del tensors[name]


def _set(tensors, prefix):
    name = next(name for name in tensors if name.startswith(prefix))
    tensors[name] = torch.zeros_like(tensors[name])


def test_a_truncated_file(elastic, tmp_path):
    file = tmp_path / ELASTIC
    save_elastic(file, elastic, *RESNET)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DamagedRun, match="damaged"):
        load_elastic(file)


@pytest.mark.parametrize("width", [0.0, 1.5, -1.0])
def test_a_width_out_of_range(elastic, tmp_path, width):
    save_elastic(tmp_path / ELASTIC, elastic, *RESNET)
    with pytest.raises(ConfigError, match=f"width={width:g}: expected a number above 0, at most 1"):
        runner.load_compact(tmp_path, width=width)
