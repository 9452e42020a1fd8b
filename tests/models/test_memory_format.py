"""The weight gradient of a strided 1x1 convolution with few input channels, which corrupts memory in channels_last."""

import copy
import ctypes.util
import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from runner.config.build import build
from runner.config.compose import Composer, options
from runner.dropout.variational import Variational
from runner.models.blocks import PointwiseConv2d, conv
from runner.models.memory_format import unsafe_in_channels_last, use_fast_memory_format
from runner.models.resnet import PreActResNet

FOREIGN = """
import torch
from torch import nn


class Foreign(nn.Module):
    def __init__(self, channels, image_size, classes):
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.project = nn.Conv2d(4, 8, 1, 2)
        self.logits = nn.Linear(8, classes)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.logits(self.project(torch.relu(self.inner(x))).mean((2, 3)))
"""

STEPS = """
import torch

from runner.experiment import Experiment
from runner.running import settle
from runner.config.compose import Composer

# With these, networks of before this was known ended at the first step.
narrow = ["model.width=0.125", "model.blocks=1", "model.input_size=16"]
config = Composer("train").single(["debug=smoke", *narrow, "dropout=targeted", "precision=float32"])
for model in (config["model"], {"name": "foreign", "_target_": "foreign.Foreign", "input_size": 16}):
    training = Experiment.from_config(settle({**config, "model": model}, foreign=True)).training()
    for step in range(20):
        training.step = 0
        training.one_step()
        small = [torch.empty(n) for n in range(1, 100)]
    print(model["name"], "survived", flush=True)
"""


def foreign() -> nn.Module:
    names: dict[str, type[nn.Module]] = {}
    exec(FOREIGN, names)
    return names["Foreign"](1, 8, 10)


def test_training_never_corrupts_memory(tmp_path):
    (tmp_path / "foreign.py").write_text(FOREIGN)
    # Kernels of a processor without AVX-512, and an allocator that aborts the process at the first corruption.
    environment = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MALLOC_CHECK_": "3"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
    if library := ctypes.util.find_library("c_malloc_debug"):
        environment["LD_PRELOAD"] = library
    done = subprocess.run(
        [sys.executable, "-c", STEPS],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "resnet32 survived\nforeign survived\n"


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_strided_1x1_convolution_is_the_one_of_pytorch(stride, size, channels_last):
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 6, 1, stride)
    torch.manual_seed(0)
    ours = PointwiseConv2d(5, 6, stride)
    assert list(ours.state_dict()) == list(plain.state_dict())
    for parameter, expected in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(parameter, expected)
    x = torch.randn(3, 5, size, size)
    if channels_last:  # only for the input, because PyTorch's own must not run the kernel in question
        ours = ours.to(memory_format=torch.channels_last)
    y = ours(x.contiguous(memory_format=torch.channels_last) if channels_last else x)
    torch.testing.assert_close(y, plain(x))
    y.square().sum().backward()
    plain(x).square().sum().backward()
    for parameter, expected in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad)


def test_it_costs_as_many_operations():
    def operations(layer):
        with FlopCounterMode(display=False) as counter:
            layer(torch.randn(2, 8, 9, 9)).sum().backward()
        return counter.get_total_flops()

    assert operations(PointwiseConv2d(8, 4, 2)) == operations(nn.Conv2d(8, 4, 1, 2))


def test_noise_on_its_weights_is_that_of_pytorchs_own():
    def noisy(layer):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(8, 8, 1), layer, nn.Linear(1, 1))
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        variant = Variational()
        variant.attach(model, ["1"])
        nn.init.constant_(model[1].parametrizations.weight[0].log_sigma2, 0.0)
        return model[1](torch.randn(2, 8, 6, 6))

    torch.testing.assert_close(noisy(PointwiseConv2d(8, 4, 2)), noisy(nn.Conv2d(8, 4, 1, 2)))


OTHERS = {"torchvision", "timm", "transformers", "module", "sentence_encoder"}


@pytest.mark.parametrize("name", [name for name in options("model") if name not in OTHERS])
def test_no_model_of_ours_has_such_a_layer_at_any_width(name):
    config = Composer("train").single([f"model={name}", "debug=smoke"])
    tokens = {"translation": {"vocabulary": 100}, "language_modelling": {"vocabulary": 100, "context": 8}}
    data = tokens.get(config["task"]["name"], {"channels": 3, "image_size": 64, "classes": 10})
    with torch.device("meta"):
        model = build(config, "model", **data)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    strided = [module for module in convolutions if module.kernel_size == (1, 1) and max(module.stride) > 1]
    assert all(isinstance(module, PointwiseConv2d) for module in strided)


def test_which_layers_are_unsafe():
    layers = {
        "narrow": nn.Conv2d(7, 8, 1, 2),
        "one direction": nn.Conv2d(4, 8, 1, (1, 2)),
        "grouped": nn.Conv2d(16, 16, 1, 2, groups=4),
        "wide": nn.Conv2d(8, 8, 1, 2),
        "stride 1": nn.Conv2d(4, 8, 1),
        "3x3": nn.Conv2d(4, 8, 3, 2),
        "ours": conv(4, 8, 1, 2),
    }
    unsafe = unsafe_in_channels_last(nn.ModuleDict(layers))
    assert [name for name, layer in layers.items() if layer in unsafe] == ["narrow", "one direction", "grouped"]


def test_only_unsafe_layers_leave_the_fast_format():
    model = copy.deepcopy(use_fast_memory_format(foreign()))
    seen = {}
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda layer, inputs, output, name=name: seen.update({name: inputs[0]}))
    model(torch.randn(2, 1, 8, 8).contiguous(memory_format=torch.channels_last))
    assert model.inner.weight.is_contiguous(memory_format=torch.channels_last)
    assert seen["inner"].is_contiguous(memory_format=torch.channels_last)
    assert model.project.weight.stride() == (4, 1, 1, 1)
    assert seen["project"].is_contiguous()


@pytest.mark.parametrize("dropout", list(options("dropout")))
def test_no_variant_takes_an_unsafe_layer_out_of_contiguous_format(dropout):
    model = use_fast_memory_format(foreign())
    variant = build(Composer("train").single([f"dropout={dropout}"]), "dropout")
    if "feature" in variant.granularities:
        pytest.skip("it is about features, not about weights")
    variant.attach(model)
    for step in range(4):
        variant.before_step(step, 4)
    for training in (True, False):
        model.train(training)
        with torch.no_grad():  # a variant that has to see its layer called is asked nothing here
            assert model.project.weight.stride() == (4, 1, 1, 1)
    variant.detach()
    assert model.project.weight.stride() == (4, 1, 1, 1)


def test_stored_weights_of_a_network_with_plain_convolutions_load():
    model = PreActResNet(width=0.25)
    names = [name for name, layer in model.named_modules() if isinstance(layer, PointwiseConv2d)]
    assert names == ["blocks.5.shortcut", "blocks.10.shortcut"]
    plain = copy.deepcopy(model)
    for name in names:
        layer = plain.get_submodule(name)
        plain.set_submodule(name, nn.Conv2d(layer.in_channels, layer.out_channels, 1, 2, bias=False))
    model.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model.eval()(x), plain.eval()(x))
