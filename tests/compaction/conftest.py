"""Small networks of every family, as if trained: BatchNorm has statistics and shifts, and layers have biases."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass
class Family:
    class_name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    pixels: int = 32
    channels: int = 3

    def build(self) -> nn.Module:
        module, _, name = self.class_name.rpartition(".")
        arguments = {**self.arguments}
        if not self.class_name.endswith(("Transformer", "GPT")):
            arguments |= {"channels": self.channels, "image_size": self.pixels, "classes": 10}
        torch.manual_seed(0)
        self.arguments = arguments
        return as_trained(getattr(importlib.import_module(module), name)(**arguments))

    def batch(self, count: int = 4, seed: int = 1) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        if self.class_name.endswith("Transformer"):
            return tuple(torch.randint(3, 40, (count, length), generator=generator) for length in (7, 5))
        if self.class_name.endswith("GPT"):
            return (torch.randint(40, (count, 7), generator=generator),)
        return (torch.randn(count, self.channels, self.pixels, self.pixels, generator=generator),)


def as_trained(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            shape = module.weight.shape
            module.weight.data = torch.rand(shape, generator=generator) + 0.5
            module.bias.data = torch.randn(shape, generator=generator) * 0.3
            module.running_mean = torch.randn(shape, generator=generator) * 0.3
            module.running_var = torch.rand(shape, generator=generator) + 0.5
        elif isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            module.bias.data = torch.randn(module.bias.shape, generator=generator) * 0.3
    return model.eval()


def _families() -> dict[str, Family]:
    resnets = "runner.models.imagenet_resnet"
    gpt = {"vocabulary": 40, "context": 9, "layers": 1, "features": 32, "heads": 4, "feed_forward": 64}
    stages = {"stages": [1, 1], "widths": [8, 16]}
    return {
        "resnet": Family("runner.models.resnet.ResNet", {"blocks": 1, "width": 0.5}, 16),
        "preactivation": Family("runner.models.resnet.PreActResNet", {"blocks": 2, "width": 0.5}, 16),
        "basic": Family(f"{resnets}.SmallImageResNet", {"block": "basic", **stages}, 16),
        "bottleneck": Family(f"{resnets}.ImageNetResNet", {"block": "bottleneck", **stages}),
        "preactivation-102": Family(f"{resnets}.ImageNetResNet", {"block": "preactivation", **stages}),
        "wide": Family("runner.models.wide_resnet.WideResNet", {"depth": 10, "widen": 1}, 16),
        "vgg": Family("runner.models.vgg.VGG", {"width": 0.125}),
        "vgg-unflat": Family(  # four pixels of each channel are left before flattening
            "runner.models.vgg.VGG", {"widths": [8, 16], "stages": [1, 2], "dense": [32, 16]}, 8
        ),
        "lenet": Family("runner.models.lenet.LeNet", {"dense": [40]}, 16),
        "mlp": Family("runner.models.mlp.MLP", {"widths": [32, 16]}, 8, 1),
        "transformer": Family(
            "runner.models.transformer.Transformer",
            {"vocabulary": 40, "layers": 1, "features": 32, "heads": 4, "feed_forward": 64},
        ),
        "gpt": Family("runner.models.gpt.GPT", gpt),
        "gpt-rotary": Family("runner.models.gpt.GPT", {**gpt, "positions": "rotary"}),
        "autoencoder": Family("runner.models.autoencoder.Autoencoder", {"widths": [32, 16], "code": 12}, 8, 1),
        "autoencoder-conv": Family(
            "runner.models.autoencoder.ConvolutionalAutoencoder", {"widths": [8, 12], "code": 12}, 9, 1
        ),
    }


FAMILIES = _families()


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture
def families() -> dict[str, Family]:
    return FAMILIES


@pytest.fixture
def trained() -> Callable[[nn.Module], nn.Module]:
    return as_trained
