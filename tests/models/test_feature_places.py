"""Feature places of every model: cutting a feature affects only weights of the consumer."""

import pytest
import torch
from torch import nn

from runner.models.autoencoder import Autoencoder, ConvolutionalAutoencoder
from runner.models.imagenet_resnet import BLOCKS, ImageNetResNet, SmallImageResNet
from runner.models.layers import feature_places
from runner.models.lenet import LeNet
from runner.models.mlp import MLP
from runner.models.resnet import PreActResNet, ResNet
from runner.models.vgg import VGG
from runner.models.wide_resnet import WideResNet

MODELS = {
    "mlp": lambda: MLP(1, 8, 3, widths=(6, 5, 4)),
    "lenet": lambda: LeNet(1, 16, 3, widths=(4, 5), dense=(7, 6)),
    "vgg": lambda: VGG(1, 32, 3, widths=(4, 5, 6), stages=(1, 2, 1), dense=(6, 5)),
    "resnet": lambda: ResNet(1, 8, 3, widths=(4, 6), blocks=2),
    "preact_resnet": lambda: PreActResNet(1, 8, 3, stem_width=4, widths=(4, 6), blocks=2),
    "wide_resnet": lambda: WideResNet(1, 8, 3, depth=10, widen=1, width=0.25),
    "autoencoder": lambda: Autoencoder(1, 8, 3, widths=(8,), code=5),
    "convolutional_autoencoder": lambda: ConvolutionalAutoencoder(1, 8, 3, widths=(4, 6), code=5),
    **{
        f"imagenet_{block}": lambda block=block: ImageNetResNet(1, 32, 3, block, stages=(1, 2), widths=(4, 6))
        for block in BLOCKS
    },
    "resnet18": lambda: SmallImageResNet(1, 8, 3, "basic", stages=(1, 1), widths=(4, 6)),
}


def ready(name):
    """The model in evaluation mode with random BatchNorm statistics and parameters, and images for it."""
    torch.manual_seed(0)
    model = MODELS[name]().double().eval()
    with torch.no_grad():
        for kind, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5)
                if kind.endswith("running_mean"):
                    tensor.neg_()  # so that no ReLU outputs only zeros
    size = {"mlp": 8, "lenet": 16, "vgg": 32}.get(name, 32 if name.startswith("imagenet") else 8)
    return model, torch.rand(2, 1, size, size, dtype=torch.float64)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_cutting_a_feature_is_zeroing_the_consumers_weights(name):
    model, images = ready(name)
    whole, changed = model(images), 0
    for place in feature_places(model):
        consumer = model.get_submodule(place.consumer)
        assert place.dim == (1 if isinstance(consumer, nn.Conv2d) else -1)
        for feature in range(consumer.weight.shape[1]):

            def cut(module, inputs, place=place, feature=feature):
                return inputs[0].index_fill(place.dim, torch.tensor([feature]), 0)

            hook = consumer.register_forward_pre_hook(cut)
            hooked = model(images)
            hook.remove()
            weight = consumer.weight.clone()
            consumer.weight[:, feature] = 0
            assert torch.allclose(model(images), hooked, rtol=1e-9, atol=1e-12)
            consumer.weight.copy_(weight)
            changed += not torch.allclose(hooked, whole, rtol=1e-6)
    assert changed > 0
    assert torch.equal(model(images), whole)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_producers_filter_makes_the_feature_and_nothing_else(name):
    """A change of filter c changes feature c of the consumer's input, and no other."""
    model, images = ready(name)
    for place in feature_places(model):
        consumer, producer = model.get_submodule(place.consumer), model.get_submodule(place.producer)
        assert len(producer.weight) == consumer.weight.shape[1]
        seen = []
        hook = consumer.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        model(images)
        producer.weight[1] += 1
        model(images)
        producer.weight[1] -= 1
        hook.remove()
        differs = (seen[0] - seen[1]).movedim(place.dim, 0).flatten(1).abs().amax(1) > 1e-12
        assert differs.nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mlp", [("hidden.2", "hidden.0"), ("hidden.4", "hidden.2"), ("logits", "hidden.4")]),
        ("lenet", [("features.3", "features.0"), ("dense.2", "dense.0"), ("logits", "dense.2")]),
        (
            "vgg",
            [
                ("features.4", "features.0"),
                ("features.7", "features.4"),
                ("features.11", "features.7"),
                ("dense.2", "dense.0"),
                ("logits", "dense.2"),
            ],
        ),
        ("resnet", [(f"blocks.{i}.conv2", f"blocks.{i}.conv1") for i in range(4)]),
        ("wide_resnet", [(f"blocks.{i}.conv2", f"blocks.{i}.conv1") for i in range(3)]),
        (
            "imagenet_bottleneck",
            [(f"blocks.{i}.conv{j + 1}", f"blocks.{i}.conv{j}") for i in range(3) for j in (1, 2)],
        ),
        ("autoencoder", [("decoder.0", "encoder.2")]),
    ],
)
def test_the_places_by_name(name, expected):
    assert [(place.consumer, place.producer) for place in feature_places(MODELS[name]())] == expected


def test_nothing_goes_across_the_flattening_of_an_image():
    assert [place.consumer for place in feature_places(LeNet(1, 16, 3, dense=()))] == ["features.3"]


def test_small_networks_without_an_inner_feature_have_no_place():
    assert feature_places(MLP(1, 8, 3, widths=())) == ()
