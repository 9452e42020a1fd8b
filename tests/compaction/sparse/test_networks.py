"""Sparse networks compared with the dense networks that they were made from."""

import copy
import pickle
import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from runner.compaction.cutting import compact
from runner.compaction.sparse import Unsupported, sparsify
from runner.compaction.sparse.executor import Executor
from runner.models.autoencoder import Autoencoder, ConvolutionalAutoencoder
from runner.models.imagenet_resnet import ImageNetResNet, SmallImageResNet
from runner.models.lenet import LeNet
from runner.models.mlp import MLP
from runner.models.resnet import PreActResNet, ResNet
from runner.models.vgg import VGG
from runner.models.wide_resnet import WideResNet
from runner.pruning.apply import prune

TOLERANCE = 1e-5

MODELS = {
    "resnet": (lambda: ResNet(blocks=2, width=0.5), (3, 32, 32)),
    "resnet, odd image": (lambda: ResNet(blocks=1, width=0.5, image_size=9, channels=1), (1, 9, 9)),
    "preactivation resnet": (lambda: PreActResNet(blocks=2, width=0.25), (3, 32, 32)),
    "preactivation resnet, 28 px": (lambda: PreActResNet(blocks=1, width=0.25, image_size=28, channels=1), (1, 28, 28)),
    "vgg": (lambda: VGG(width=0.05), (3, 32, 32)),
    "wide resnet": (lambda: WideResNet(depth=10, widen=1), (3, 32, 32)),
    "lenet": (lambda: LeNet(channels=1, image_size=28), (1, 28, 28)),
    "mlp": (lambda: MLP(), (1, 28, 28)),
    "autoencoder": (lambda: Autoencoder(), (1, 28, 28)),
    "convolutional autoencoder": (lambda: ConvolutionalAutoencoder(), (1, 28, 28)),
    "bottlenecks": (lambda: ImageNetResNet(width=0.1, stages=(1, 1, 1, 1), image_size=65), (3, 65, 65)),
    "imagenet, preactivation": (
        lambda: ImageNetResNet(width=0.1, stages=(1, 2, 1, 1), block="preactivation", image_size=64),
        (3, 64, 64),
    ),
    "resnet-18": (lambda: SmallImageResNet(width=0.1, block="basic", stages=(2, 1, 1, 1), image_size=16), (3, 16, 16)),
}


def settled(model: nn.Module, seed: int = 0) -> nn.Module:
    """Switch to evaluation mode, with BatchNorm statistics that would reveal an omitted or misplaced BatchNorm."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
            ):
                tensor.data.uniform_(low, high, generator=generator)
    return model.eval()


def assert_equal(model: nn.Module, x: Tensor, tolerance: float = TOLERANCE) -> None:
    """Check that outputs equal the dense network's, and that single images give bitwise the same as a batch."""
    sparse = sparsify(model, x)
    with torch.inference_mode():
        expected, found = model(x), sparse(x)
        single = torch.cat([sparse(x[i : i + 1]) for i in range(len(x))])
    assert sparse.executor is not None
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * max(1e-3, expected.abs().max())
    assert torch.equal(found, single)


@pytest.fixture(autouse=True)
def drawn_by_lot(monkeypatch):
    """Make choices that do not depend on the machine, and that use every kernel, by drawing times at random."""
    times = random.Random(0)
    monkeypatch.setattr(Executor, "_time", lambda *_: times.random())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sparsity", [0.0, 0.9, 0.99])
def test_models(name, sparsity):
    torch.manual_seed(0)
    make, image = MODELS[name]
    model = settled(make())
    prune(model, sparsity)
    assert_equal(model, torch.randn(11, *image))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data())
def test_convolutions(data):
    kernel = data.draw(st.sampled_from([(1, 1), (3, 3), (5, 5), (7, 7), (3, 1), (2, 4)]), "kernel")
    height, width = (data.draw(st.integers(max(kernel), 37), label) for label in ("height", "width"))
    channels, filters = (data.draw(st.integers(1, 64), label) for label in ("channels", "filters"))
    stride = data.draw(st.sampled_from([1, 1, 2, 2, 3]), "stride")
    padding = (data.draw(st.integers(0, kernel[0] // 2), "rows"), data.draw(st.integers(0, kernel[1] // 2), "columns"))
    density = data.draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]), "density")
    batch = data.draw(st.integers(1, 17), "batch")
    ends = data.draw(st.sampled_from(["bias", "norm", "relu", "norm, relu", "relu, norm"]), "ends")
    torch.manual_seed(data.draw(st.integers(0, 99), "seed"))
    layer = nn.Conv2d(channels, filters, kernel, stride, padding, bias=ends == "bias")
    layer.weight.data *= torch.rand_like(layer.weight) < density
    layer.weight.data[torch.rand(filters) < 0.2] = 0  # filters without any weight
    parts = {"norm": nn.BatchNorm2d(filters), "relu": nn.ReLU()}
    model = settled(nn.Sequential(layer, *(parts[end] for end in ends.split(", ") if end in parts)))
    assert_equal(model, torch.randn(batch, channels, height, width))


class Around(nn.Module):
    """A convolution surrounded by everything that may be fused with it."""

    def __init__(self, filters: int, stride: int, projected: bool, first: bool) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, filters, 3, padding=1), nn.BatchNorm2d(filters)
        self.inner = nn.Conv2d(filters, filters, 3, stride, 1)
        self.outer = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(filters, filters, 1, stride) if projected else None
        self.stride, self.first = stride, first

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.relu(self.norm(x))
        source = y if self.first else x
        shortcut = source[:, :, :: self.stride, :: self.stride] if self.shortcut is None else self.shortcut(source)
        y = self.outer(torch.relu(self.inner(y)))
        y += shortcut
        return torch.cat([y, F.relu(y)], 1)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(1, 20), st.sampled_from([1, 2, 3]), st.booleans(), st.booleans(), st.integers(3, 19))
def test_residual_sums(filters, stride, projected, first, size):
    torch.manual_seed(0)
    model = settled(Around(filters, stride, projected, first))
    prune(model, 0.8)
    assert_equal(model, torch.randn(9, 3, size, size + 2))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_pools(data):
    size = data.draw(st.integers(1, 4), "size")
    stride = data.draw(st.integers(1, 3), "stride")
    padding = data.draw(st.integers(0, size // 2), "padding")
    height, width = (data.draw(st.integers(4, 21), label) for label in ("height", "width"))
    kind = data.draw(st.sampled_from(["max", "ceil", "average"]), "kind")
    pool = (
        nn.AvgPool2d(size, stride, padding)
        if kind == "average"
        else nn.MaxPool2d(size, stride, padding, ceil_mode=kind == "ceil")
    )
    torch.manual_seed(0)
    assert_equal(nn.Sequential(nn.Conv2d(2, 5, 1), pool, nn.Conv2d(5, 3, 1)).eval(), torch.randn(9, 2, height, width))


class Views(nn.Module):
    """Changes of shape, in the ways that networks write them."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(2, 6, 3), nn.BatchNorm1d(6 * 16)
        self.linear, self.pooled, self.end = nn.Linear(6 * 16, 5), nn.Linear(6, 5), end
        self.pool = nn.AdaptiveAvgPool2d(2 if end == "adaptive" else 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        if self.end == "flatten, norm":
            return self.linear(F.relu(self.norm(torch.flatten(x, 1))))
        if self.end == "view":
            return F.dropout(self.linear(x.view(x.size(0), -1)), training=self.training)
        if self.end == "reshape":
            return self.linear(x.reshape(x.shape[0], 6 * 16)).view(-1, 1, 5, 1)
        if self.end == "pool":
            return self.pooled(self.pool(x).flatten(1))
        if self.end == "mean":
            return self.pooled(x.mean([2, 3]))
        if self.end == "pad":
            return F.pad(x, (1, 2, 3, 0, 1, 2))
        if self.end == "part":
            return F.interpolate(x[:, 1:4, 1:, 1:], size=(7, 4))
        return self.pool(x)


@pytest.mark.parametrize(
    "end", ["flatten, norm", "view", "reshape", "pool", "mean", "pad", "part", "adaptive", "image"]
)
def test_views(end):
    torch.manual_seed(0)
    assert_equal(settled(Views(end)), torch.randn(9, 2, 6, 6))


def test_network_of_zeros():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3)).eval()
    for parameter in model.parameters():
        parameter.data.zero_()
    model[3].bias.data.copy_(torch.tensor([1.0, -2.0, 3.0]))
    assert_equal(model, torch.randn(3, 1, 8, 8))


def test_not_a_number_stays():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.MaxPool2d(2)).eval()
    x = torch.zeros(9, 1, 16, 16)
    x[:, :, 5, 5] = float("nan")
    assert torch.equal(sparsify(model, x)(x).isnan(), model(x).isnan())


def test_threads_and_memory_formats_change_nothing():
    torch.manual_seed(0)
    model = settled(ResNet(blocks=1, width=0.5))
    prune(model, 0.9)
    x = torch.randn(37, 3, 32, 32)
    sparse, threads = sparsify(model, x), torch.get_num_threads()
    expected = sparse(x)
    try:
        torch.set_num_threads(3)
        assert torch.equal(sparse(x), expected)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(sparse(x.to(memory_format=torch.channels_last)), expected)
    assert torch.equal(sparse(x[1::2]), expected[1::2])
    assert sparse(x[:0]).shape == (0, 10)


def test_kernels_are_chosen_by_their_times(monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).eval()
    for kernel in ("taps", "blocks"):
        monkeypatch.setattr(Executor, "_time", lambda _, step, arena, kernel=kernel: 1.0 + (step.kernel != kernel))
        executor = sparsify(model, torch.randn(1, 8, 12, 12)).executor
        assert executor is not None
        assert [step.kernel for step in executor.single.steps] == ["load", kernel, kernel, "store"]


def test_copies_and_pickles():
    torch.manual_seed(0)
    x = torch.randn(9, 3, 32, 32)
    sparse = sparsify(settled(ResNet(blocks=1, width=0.5)), x)
    for other in (copy.deepcopy(sparse), pickle.loads(pickle.dumps(sparse))):
        assert torch.equal(other(x), sparse(x))
        assert other.dense is not sparse.dense


def test_does_not_change_the_dense_network():
    torch.manual_seed(0)
    model = settled(ResNet(blocks=1, width=0.5))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sparsify(model, torch.randn(1, 3, 32, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.fixture(scope="module")
def small():
    """A network with the kernels that are actually the fastest."""
    return sparsify(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval(), torch.randn(1, 3, 6, 6))


@pytest.mark.parametrize(
    ("x", "named"),
    [
        (torch.zeros(1, 3, 6, 7), r"\(1, 3, 6, 7\)"),
        (torch.zeros(3, 6, 6), r"\(3, 6, 6\)"),
        (torch.zeros(1, 3, 6, 6, dtype=torch.float64), "float64"),
        (torch.zeros(1, 3, 6, 6, device="meta"), "meta"),
    ],
)
def test_refuses_other_inputs(small, x, named):
    with pytest.raises(ValueError, match=rf"expects \(N, 3, 6, 6\) float32 on the cpu.*{named}") as error:
        small(x)
    assert "\n" not in str(error.value)


def test_refuses_training(small):
    with pytest.raises(ValueError, match="can't be trained"):
        small.train()
    with pytest.raises(ValueError, match="eval"):
        sparsify(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)), torch.zeros(1, 1, 2, 2))


def test_refuses_other_parameters_and_examples():
    model = nn.Sequential(nn.Conv2d(1, 1, 1)).eval()
    with pytest.raises(ValueError, match=r"0\.weight.*float64"):
        sparsify(nn.Sequential(nn.Conv2d(1, 1, 1)).eval().double(), torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"\(1, 2, 2\)"):
        sparsify(model, torch.zeros(1, 2, 2))


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sigmoid()), "layer 1: Sigmoid"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")), "layer 0"),
        (Branch(), "Branch can't be traced"),
        (nn.Sequential(nn.Linear(4, 4)), "flattened"),
    ],
)
def test_names_what_it_does_not_know(model, named):
    with pytest.raises(Unsupported, match=named) as error:
        sparsify(model.eval(), torch.zeros(1, 1, 4, 4))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("removal, fold", [("clean", True), ("exact", False)])
@pytest.mark.parametrize("name", ["resnet", "preactivation", "wide", "bottleneck", "vgg"])
def test_networks_that_were_cut(families, name, removal, fold):
    model = families[name].build()
    prune(model, 0.75, "unit")
    result = compact(model, families[name].batch(), removal, fold=fold)
    assert bool(result.structure.scattered) == (name != "vgg"), "there is something written into a sum by index"
    assert_equal(result.network, families[name].batch(9)[0])
