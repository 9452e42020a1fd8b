import pytest
import torch
from torch import nn

from runner.models.imagenet_resnet import ImageNetResNet, SmallImageResNet
from runner.models.layers import parameter_count, prunable_layers

RESNET101 = (ImageNetResNet, {"block": "bottleneck", "stages": (3, 4, 23, 3), "classes": 1000})
RESNET102 = (ImageNetResNet, {"block": "preactivation", "stages": (3, 8, 36, 3), "classes": 1000})
RESNET18 = (SmallImageResNet, {"block": "basic", "stages": (2, 2, 2, 2), "classes": 10})

# Unlike post-activation basic blocks, tensor2tensor's also have a projection in the first stage (64x64 weights and
# BatchNorm), and the first BatchNorm of stages 2, 3 and 4 has the number of input channels.
PREACTIVATION_MORE = 64 * 64 + 2 * 64 - 2 * (64 + 128 + 256)


def on_meta(cls, arguments):
    with torch.device("meta"):
        return cls(**arguments)


@pytest.mark.parametrize(
    ("cls", "arguments", "parameters"),
    [
        (*RESNET101, 44_549_160),  # torchvision.models.resnet101
        (*RESNET18, 11_173_962),  # kuangliu/pytorch-cifar; PAPER.md 2.6
        (ImageNetResNet, {"block": "basic", "stages": (3, 4, 6, 3)}, 21_797_672),  # torchvision.models.resnet34
        (ImageNetResNet, {"block": "preactivation", "stages": (3, 4, 6, 3)}, 21_797_672 + PREACTIVATION_MORE),
        (
            ImageNetResNet,
            {"block": "basic", "stages": (3, 8, 36, 3)},
            58_399_528,
        ),  # torchvision's ResNet(BasicBlock, …)
        (*RESNET102, 58_399_528 + PREACTIVATION_MORE),
    ],
)
def test_parameter_counts_at_full_size(cls, arguments, parameters):
    assert parameter_count(on_meta(cls, arguments)) == parameters


@pytest.mark.parametrize(("cls", "arguments", "layers"), [(*RESNET101, 101), (*RESNET102, 102), (*RESNET18, 18)])
def test_it_has_as_many_layers_as_its_name_says(cls, arguments, layers):
    model = on_meta(cls, arguments)
    matrices = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n]
    assert len(matrices) == layers


@pytest.mark.parametrize(("cls", "arguments", "projections"), [(*RESNET101, 4), (*RESNET102, 4), (*RESNET18, 3)])
def test_prunable_are_all_convolutions_but_the_stem(cls, arguments, projections):
    model = on_meta(cls, arguments)
    names = list(prunable_layers(model))
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert names == convolutions[1:]
    assert convolutions[0] == "stem.0"
    assert sum("shortcut" in name for name in names) == projections


def test_resnet18_has_the_batch_norms_and_logits_that_the_paper_counts_with():
    # PAPER.md 2.6: the 29,706 parameters that Xtreme-3 leaves include 9,600 of BatchNorm and 5,130 of the logits.
    model = on_meta(*RESNET18)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert sum(map(parameter_count, norms)) == 9_600
    assert parameter_count(model.logits) == 5_130


@pytest.mark.parametrize("block", ["basic", "bottleneck", "preactivation"])
@pytest.mark.parametrize(
    ("cls", "channels", "size", "sizes"),
    [
        (ImageNetResNet, 3, 64, [16, 8, 4, 2]),
        (ImageNetResNet, 1, 32, [8, 4, 2, 1]),
        (SmallImageResNet, 1, 8, [8, 4, 2, 1]),
    ],
)
def test_shapes(cls, block, channels, size, sizes):
    model = cls(channels, size, 7, block=block, stages=(1, 1, 1, 1), width=1 / 16).eval()
    seen = []
    for stage in model.blocks:
        stage.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
    assert model(torch.randn(2, channels, size, size)).shape == (2, 7)
    assert seen == sizes


def test_a_bad_block_and_a_missing_stage_are_named():
    with pytest.raises(ValueError, match=r"^block='wide': expected one of basic, bottleneck, preactivation$"):
        ImageNetResNet(block="wide")
    with pytest.raises(ValueError, match=r"^stages=\[1\]: expected one number for each of the 4 widths$"):
        ImageNetResNet(stages=[1])
