"""The module TailDropout, its distribution, and the variant that inserts it before a model's feature places."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from runner.dropout import Tail, TailDropout, get_scale_param
from runner.dropout.tail import drop_rates
from runner.models.autoencoder import Autoencoder
from runner.models.layers import FeaturePlace
from runner.models.mlp import MLP
from runner.models.resnet import ResNet

RATES = [1e-5, 1e-3, 0.1, 0.5, 0.9, 0.999]


def lengths(y, dim):
    """Return the number of leading ones of each vector along the dimension, and check that the rest is zero."""
    y = y.movedim(dim, -1)
    k = y.sum(-1)
    assert torch.equal(y, (torch.arange(y.shape[-1]) < k.unsqueeze(-1)).to(y.dtype))
    return k.long()


# The distribution


@pytest.mark.parametrize("p", [1e-12, *RATES, 1 - 1e-9])
def test_the_scale_gives_the_mean_drop_rate(p):
    a = get_scale_param(p)
    kept = -a * math.expm1(-1 / a)
    assert kept == pytest.approx(1 - p, rel=1e-8)
    # For small p, 1 - kept is inaccurate, but its series is not: 1 / (2 a) - 1 / (6 a²) + …
    if p < 1e-3:
        assert 1 / (2 * a) - 1 / (6 * a**2) == pytest.approx(p, rel=1e-6)


def test_a_coarse_tolerance_is_kept_too():
    a = get_scale_param(0.3, tol=0.01)
    assert 1e-9 < abs(1 + a * math.expm1(-1 / a) - 0.3) <= 0.003


@pytest.mark.parametrize("p", [0, 1, -0.1, 1.5, math.nan])
def test_there_is_no_scale_without_randomness(p):
    with pytest.raises(ValueError, match=f"^p={p}: expected a number between 0 and 1$"):
        get_scale_param(p)


@pytest.mark.parametrize("n", [1, 2, 7, 512])
@pytest.mark.parametrize("p", RATES)
def test_the_expected_drop_rate_is_exactly_p(p, n):
    rates = drop_rates(get_scale_param(p), n).double()
    assert rates.mean().item() == pytest.approx(p, rel=1e-5)
    assert (rates.diff() >= 0).all()
    assert rates[0] >= 0
    assert rates[-1] <= 1


def test_drop_rates_are_those_of_an_exponential_rounded_without_bias():
    n, a = 8, get_scale_param(0.4)
    generator = torch.Generator().manual_seed(0)
    length = n * torch.empty(400_000, dtype=torch.float64).exponential_(1 / a, generator=generator).clamp(max=1)
    k = (length + torch.rand(400_000, generator=generator)).floor()
    expected = torch.stack([(k <= j).double().mean() for j in range(n)])
    assert torch.allclose(drop_rates(a, n).double(), expected, atol=4e-3)  # 5 standard deviations of a mean of 400,000


@pytest.mark.parametrize("sampling", ["independent", "stratified"])
@pytest.mark.parametrize("p", [0.001, 0.5, 0.95])
def test_every_feature_is_dropped_at_its_rate(p, sampling):
    torch.manual_seed(0)
    dropout = TailDropout(p, sampling=sampling)
    dropped = 1 - dropout(torch.ones(100_000, 6, dtype=torch.float64)).mean(0)
    rates = drop_rates(get_scale_param(p), 6).double()
    allowed = 5 * (rates * (1 - rates) / 100_000).sqrt() if sampling == "independent" else torch.tensor(1.01e-5)
    assert ((dropped - rates).abs() <= allowed).all()


def test_a_tiny_rate_has_any_k():
    torch.manual_seed(0)
    k = lengths(TailDropout(1e-5)(torch.ones(1_000_000, 10)), 1)
    few = k[k < 10]
    assert 0 < len(few) < 50  # 20 expected
    assert few.float().std() > 1.5  # 2.9 expected: the censored exponential is flat there


def test_stratified_takes_the_noise_out_of_a_batch_and_shuffles():
    torch.manual_seed(0)
    drawn = {
        s: torch.stack([TailDropout(0.5, sampling=s)(torch.ones(64, 32)).mean((0, 1)) for _ in range(50)])
        for s in ("independent", "stratified")
    }
    assert drawn["stratified"].std() < 0.1 * drawn["independent"].std()
    k = lengths(TailDropout(0.5, sampling="stratified")(torch.ones(64, 32)), 1)
    assert not torch.equal(k, k.sort().values)
    assert not torch.equal(k, k.sort(descending=True).values)


# The module


def test_training_is_random_and_evaluation_the_identity():
    torch.manual_seed(0)
    dropout, x = TailDropout(), torch.randn(64, 16)
    first, second = dropout(x), dropout(x)
    assert not torch.equal(first, second)
    assert torch.isin(first - x, torch.cat([torch.zeros(1), -x.flatten()])).all()  # nothing is rescaled
    assert dropout.eval()(x) is x


def test_no_rate_and_full_rate_are_exact():
    x = torch.randn(5, 7, requires_grad=True)
    assert TailDropout(0)(x) is x
    y = TailDropout(1.0)(x)
    assert not y.any()
    y.sum().backward()
    assert not x.grad.any()
    assert TailDropout(1.0).eval()(x) is x


def test_another_rate():
    dropout, x = TailDropout(0.0), torch.ones(2000, 10)
    dropout.set_p(0.8)
    assert 1 - dropout(x).mean() == pytest.approx(0.8, abs=0.03)
    dropout.set_p(0.2)
    assert 1 - dropout(x).mean() == pytest.approx(0.2, abs=0.03)
    assert "p=0.2" in repr(dropout)


@pytest.mark.parametrize(
    ("shape", "batch_dim", "dropout_dim"),
    [
        ((40, 9), 0, -1),
        ((9, 40), 1, 0),
        ((40, 9), -2, 1),
        ((40, 9, 3, 2), 0, 1),
        ((5, 8, 9), (0, 1), -1),
        ((5, 8, 9), [1, 0], 2),
        ((5, 9, 8), (0, -1), -2),
        ((5, 8, 9), 0, -1),
        ((2, 40, 3, 9, 1), 1, -2),
    ],
)
def test_one_k_for_each_combination_of_the_batch_dimensions(shape, batch_dim, dropout_dim):
    torch.manual_seed(0)
    k = lengths(TailDropout(0.5, batch_dim, dropout_dim)(torch.ones(shape)), dropout_dim)
    features = dropout_dim % len(shape)
    batch = {dim % len(shape) for dim in ([batch_dim] if isinstance(batch_dim, int) else batch_dim)}
    for place, dim in enumerate(dim for dim in range(len(shape)) if dim != features):
        if dim not in batch:
            assert torch.equal(k, k.narrow(place, 0, 1).expand_as(k))
            k = k.narrow(place, 0, 1)
    assert len(k.unique()) > 3
    if len(batch) == 2:
        assert not torch.equal(k, k[:1].expand_as(k))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shape", "dim"), [((4, 6), -1), ((4, 6, 5, 5), 1), ((3, 4, 6), 2), ((6, 2), 0)])
def test_the_first_k_in_both_modes(shape, dim, training):
    dropout = TailDropout(0.5, batch_dim=1 if dim == 0 else 0, dropout_dim=dim).train(training)
    x = torch.randn(shape)
    for k in range(7):
        dropout.set_k(k)
        assert dropout.k == k
        expected = x.clone()
        expected.narrow(dim, k, 6 - k).zero_()
        assert torch.equal(dropout(x), expected)
    dropout.set_k(None)
    assert dropout.k is None
    assert (dropout(x) is x) == (not training)


@pytest.mark.parametrize(("p", "k"), [(0.0, 2), (1.0, 2)])
def test_a_k_goes_before_every_rate(p, k):
    dropout = TailDropout(p)
    dropout.set_k(k)
    assert torch.equal(lengths(dropout(torch.ones(3, 5)), 1), torch.full((3,), k))


@pytest.mark.parametrize("call", ["train", "eval"])
def test_train_and_eval_undo_set_k_with_a_warning(call):
    model = nn.Sequential(nn.Linear(3, 3), TailDropout())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(model, call)()
    assert not caught
    model[1].set_k(2)
    with pytest.warns(UserWarning, match=rf"^{call}\(\) undoes set_k\(2\); call set_k after it$"):
        getattr(model, call)()
    assert model[1].k is None


@pytest.mark.parametrize("dropout", [TailDropout(), TailDropout(0.5, (0, 1), 2), TailDropout(0.0), TailDropout(1.0)])
def test_the_gradient_is_the_mask(dropout):
    x = torch.ones(4, 3, 6, requires_grad=True)
    y = dropout(x)
    y.backward(torch.full_like(y, 2))
    assert torch.equal(x.grad, 2 * y)


def test_from_torchs_global_generator():
    x, dropout = torch.ones(64, 16), TailDropout()
    torch.manual_seed(3)
    first = dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": 1.5}, "p=1.5: expected a number from 0 to 1"),
        ({"p": -0.1}, "p=-0.1: expected a number from 0 to 1"),
        ({"batch_dim": 1, "dropout_dim": 1}, "dropout_dim=1: expected a dimension that is not in batch_dim=1"),
        (
            {"batch_dim": [0, -1], "dropout_dim": -1},
            r"dropout_dim=-1: expected a dimension that is not in batch_dim=\(0, -1\)",
        ),
        ({"sampling": "some"}, "sampling='some': expected one of independent, stratified"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        TailDropout(**arguments)


@pytest.mark.parametrize("k", [-1, 2.5, "2", True])
def test_a_k_that_makes_no_sense(k):
    dropout = TailDropout()
    dropout.set_k(3)
    with pytest.raises(ValueError, match=f"^k={k!r}: expected None or a whole number, 0 or above$"):
        dropout.set_k(k)
    assert dropout.k == 3


def test_inputs_that_do_not_fit():
    dropout = TailDropout(batch_dim=1)
    with pytest.raises(ValueError, match=r"^dropout_dim=-1: expected a dimension that is not in batch_dim=1$"):
        dropout(torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"^dropout_dim=-1, batch_dim=1: the input has only 1 dimensions$"):
        dropout(torch.ones(3))
    with pytest.raises(ValueError, match=r"^p=2: expected a number from 0 to 1$"):
        dropout.set_p(2)
    dropout.set_k(5)
    with pytest.raises(ValueError, match=r"^k=5: expected at most 4, the input's features$"):
        dropout(torch.ones(2, 3, 4))


# PyTorch's operations on modules


@pytest.mark.parametrize("entry", [{}, {"k": torch.tensor([-1])}, {"_k": torch.tensor([-1])}])
@pytest.mark.parametrize("k", [None, 0, 3])
def test_state_dicts_of_taildropout_load(entry, k):
    """`taildropout` stores one element, -1 for none, in k or _k, depending on the version, or nothing."""
    model = nn.Sequential(nn.Linear(4, 4), TailDropout())
    stored = {"0.weight": torch.eye(4), "0.bias": torch.zeros(4)}
    stored |= {f"1.{name}": value if k is None else torch.tensor([k]) for name, value in entry.items()}
    model.load_state_dict(stored)
    assert model[1].k == (k if entry else None)
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1._k"]
    model.load_state_dict(model.state_dict())
    assert model[1].k == (k if entry else None)


def test_a_k_of_several_elements_is_refused():
    with pytest.raises(RuntimeError, match="_k"):
        TailDropout().load_state_dict({"_k": torch.tensor([1, 2])})


@pytest.mark.parametrize("k", [np.int64(3), np.uint8(3)])
def test_any_integer_is_a_k(k):
    dropout = TailDropout()
    dropout.set_k(k)
    assert (dropout.k, type(dropout.k)) == (3, int)
    assert dropout(torch.ones(2, 5)).sum(1).tolist() == [3, 3]


@pytest.mark.parametrize("k", [None, 0, 3])
def test_copies_and_state_dicts_keep_k(k):
    dropout = TailDropout()
    dropout.set_k(k)
    copied, loaded = copy.deepcopy(dropout), TailDropout()
    loaded.set_k(1)
    loaded.load_state_dict(dropout.state_dict())
    assert copied.k == loaded.k == k
    dropout.set_k(2)
    assert copied.k == k
    if k is not None:
        assert lengths(loaded(torch.ones(2, 5)), 1).tolist() == [k, k]


def test_weights_of_a_network_with_another_dropout_fit():
    plain, tailed = nn.Sequential(nn.Linear(2, 3), nn.Dropout()), nn.Sequential(nn.Linear(2, 3), TailDropout())
    tailed[1].set_k(1)
    tailed.load_state_dict(plain.state_dict())
    assert tailed[1].k is None
    assert torch.equal(tailed[0].weight, plain[0].weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_stays(dtype):
    torch.manual_seed(0)
    dropout, x = TailDropout(), torch.ones(300, 400, dtype=dtype)  # bfloat16 itself cannot count to 400
    y = dropout(x)
    assert y.dtype == dtype
    assert len(lengths(y.double(), 1).unique()) > 100
    dropout.set_k(301)
    assert dropout(x).dtype == dtype
    assert lengths(dropout(x).double(), 1).unique().tolist() == [301]


def test_under_autocast():
    model = nn.Sequential(nn.Linear(8, 8), TailDropout(), nn.Linear(8, 2))
    with torch.autocast("cpu", torch.bfloat16):
        y = model(torch.ones(4, 8))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert model[0].weight.grad.dtype == torch.float32


@pytest.fixture
def compiled_frames():
    """Return a backend that runs what it is given, and the list of everything that it was given."""
    torch._dynamo.reset()
    frames = []

    def backend(graph, inputs):
        frames.append(graph)
        return graph.forward

    yield backend, frames
    torch._dynamo.reset()


def test_another_k_or_draw_compiles_nothing_anew(compiled_frames):
    backend, frames = compiled_frames
    dropout, x = TailDropout(), torch.ones(6, 5)
    compiled = torch.compile(dropout, backend=backend, fullgraph=True)
    torch.manual_seed(0)
    drawn = [compiled(x) for _ in range(5)]
    assert len({tuple(lengths(y, 1).tolist()) for y in drawn}) == 5
    assert len(frames) == 1
    for k in (3, 0, 5, 2):
        dropout.set_k(k)
        assert lengths(compiled(x), 1).tolist() == [k] * 6
    assert len(frames) == 2
    dropout.set_k(None)
    assert len(lengths(compiled(x), 1).unique()) > 1
    dropout.set_k(4)
    assert lengths(compiled(x), 1).tolist() == [4] * 6
    assert len(frames) == 2


@pytest.mark.parametrize("sampling", ["independent", "stratified"])
def test_compiled_draws_have_the_rate(sampling, compiled_frames):
    backend, _ = compiled_frames
    compiled = torch.compile(TailDropout(0.3, 0, 1, sampling), backend=backend, fullgraph=True)
    x = torch.ones(20_000, 8, 2, requires_grad=True)
    y = compiled(x)
    assert 1 - y.mean().item() == pytest.approx(0.3, abs=0.02)
    y.sum().backward()
    assert torch.equal(x.grad, y)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch comes without torch.distributed")
def test_in_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(4, 6), TailDropout(), nn.Linear(6, 3)))
        for k in (None, None, 2):
            model.module[1].set_k(k)
            model.zero_grad()
            model(torch.ones(5, 4)).sum().backward()
            assert model.module[2].weight.grad[:, :2].any()
        assert not model.module[2].weight.grad[:, 2:].any()
    finally:
        # Delete the model first: a group destroyed with its last model waits for threads that wait for Python.
        del model
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("k", [None, 2])
def test_exports_in_evaluation(k):
    model = nn.Sequential(nn.Linear(4, 6), TailDropout(), nn.Linear(6, 3)).eval()
    model[1].set_k(k)
    x = torch.randn(5, 4)
    exported = torch.export.export(model, (x,)).module()
    assert torch.equal(exported(x), model(x))
    if k is not None:
        assert not torch.allclose(exported(x), model[2](model[0](x)))


# The variant


def features(model, name):
    """Return a list that collects the inputs of the named module."""
    seen = []
    model.get_submodule(name).register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    return seen


def test_every_place_has_tails_of_its_own_in_training_alone():
    torch.manual_seed(0)
    model = MLP(1, 4, 3, widths=(12, 10))
    nn.init.ones_(model.hidden[0].bias)
    nn.init.ones_(model.hidden[2].bias)
    images = torch.rand(30, 1, 4, 4)
    plain = copy.deepcopy(model).eval()(images)
    variant = Tail(0.5)
    variant.attach(model)
    seen = {name: features(model, name) for name in ("hidden.0", "hidden.2", "logits")}
    model.train()(images)
    assert torch.equal(seen["hidden.0"][0], images.flatten(1))
    k = {name: (seen[name][0] != 0).sum(1) for name in ("hidden.2", "logits")}
    assert all(len(ks.unique()) > 3 for ks in k.values())
    assert not torch.equal(k["hidden.2"], k["logits"])
    assert torch.equal(model.eval()(images), plain)
    variant.detach()
    assert torch.equal(model.train()(images), plain)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_images_have_one_k_for_all_positions_unless_asked():
    torch.manual_seed(0)
    images = torch.randn(40, 1, 8, 8)
    for per_position in (False, True):
        model = ResNet(1, 8, 10, widths=(6,), blocks=1).train()
        variant = Tail(0.5, places=["blocks.0.conv2"], per_position=per_position)
        variant.attach(model)
        seen = features(model, "blocks.0.conv2")
        model.blocks[0].norm1.bias.data.fill_(9)  # so that ReLU outputs no zeros
        model(images)
        ends = (seen[0] != 0).sum(1)
        assert (seen[0][:, 0] != 0).any()
        assert torch.equal(ends, ends[:, :1, :1].expand_as(ends)) != per_position
        assert len(ends[:, 0, 0].unique()) > 2


class Sequences(nn.Module):
    """Two linear layers on (N, T, F)."""

    feature_places = (FeaturePlace("b", "a", -1),)

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.b(self.a(x))


@pytest.mark.parametrize("per_position", [False, True])
def test_sequences(per_position):
    torch.manual_seed(0)
    model = Sequences()
    Tail(per_position=per_position).attach(model)
    seen = features(model, "b")
    model(torch.randn(30, 5, 4))
    ends = (seen[0] != 0).sum(-1)
    assert torch.equal(ends, ends[:, :1].expand_as(ends)) != per_position
    assert len(ends.unique()) > 3


def test_scores_send_the_last_features_away_first():
    model = ResNet(1, 8, 10, widths=(4, 6), blocks=1)
    variant = Tail()
    variant.attach(model)
    scores = variant.scores()["feature"]
    assert list(scores) == ["blocks.0.conv2", "blocks.1.conv2"]
    assert scores["blocks.0.conv2"].tolist() == [3, 2, 1, 0]
    assert scores["blocks.1.conv2"].tolist() == [5, 4, 3, 2, 1, 0]
    assert variant.granularities == ("feature",)


def test_set_k_of_all_places():
    torch.manual_seed(0)
    model = MLP(1, 4, 3, widths=(12, 10))
    variant = Tail()
    variant.attach(model)
    variant.set_k(3)
    images = torch.rand(8, 1, 4, 4)
    cut = copy.deepcopy(model)
    for layer in (cut.hidden[2], cut.logits):
        layer._forward_pre_hooks.clear()
        layer.weight.data[:, 3:] = 0
    for training in (True, False):
        assert torch.allclose(model.train(training)(images), cut(images), atol=1e-6)
    variant.set_k(None)
    assert not torch.allclose(model.eval()(images), cut(images), atol=1e-3)


def test_the_models_own_names_and_parameters_stay():
    model = MLP(1, 4, 3)
    names = list(model.state_dict())
    Tail().attach(model)
    assert list(model.state_dict()) == names


def test_a_copy_of_an_attached_model_has_tails_of_its_own():
    torch.manual_seed(0)
    model = MLP(1, 4, 3)
    variant = Tail()
    variant.attach(model)
    copied, images = copy.deepcopy(model), torch.rand(8, 1, 4, 4)
    variant.set_k(0)
    assert not torch.allclose(copied.eval()(images), model.eval()(images))


def test_an_attached_model_compiles_whole(compiled_frames):
    backend, frames = compiled_frames
    model = MLP(1, 4, 3, widths=(12, 10))
    variant = Tail()
    variant.attach(model)
    compiled, images = torch.compile(model, backend=backend, fullgraph=True), torch.rand(8, 1, 4, 4)
    compiled(images).sum().backward()
    assert len(frames) == 1
    for k in (3, 7, 5):
        variant.set_k(k)
        assert torch.allclose(compiled(images), model(images))
    assert len(frames) == 2


@pytest.mark.parametrize(
    ("variant", "model", "message"),
    [
        (Tail(), nn.Sequential(nn.Linear(2, 2)), "Sequential declares no feature places, which this dropout needs"),
        (
            Tail(places=["hidden.0"]),
            MLP(widths=(8, 8)),
            "places='hidden.0': expected one of the model's feature places, hidden.2, logits",
        ),
    ],
)
def test_places_that_are_not_there(variant, model, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        variant.attach(model)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_options_that_make_no_sense():
    with pytest.raises(ValueError, match=r"^p=2: expected a number from 0 to 1$"):
        Tail(2)
    with pytest.raises(ValueError, match=r"^sampling='x': expected one of independent, stratified$"):
        Tail(sampling="x")


def test_attaches_once():
    variant, model = Tail(), MLP()
    variant.attach(model, ["logits"])
    assert list(variant.layers) == ["logits"]
    with pytest.raises(ValueError, match="attached already"):
        variant.attach(model)


# The purpose of TailDropout


@pytest.mark.parametrize("p", [0.5, 0.0])
def test_a_linear_autoencoder_learns_the_principal_components_in_order(p):
    """With TailDropout, the first k decoder columns span the first k components for every k; without, only all do."""
    torch.manual_seed(0)
    pixels, code, steps = 25, 5, 1200
    components = torch.linalg.qr(torch.randn(pixels, pixels, dtype=torch.float64)).Q
    deviations = 0.7 ** torch.arange(pixels, dtype=torch.float64)
    white = torch.linalg.qr(torch.randn(512, pixels, dtype=torch.float64)).Q * math.sqrt(512)
    images = (white * deviations @ components.T).view(-1, 1, 5, 5)
    model = Autoencoder(1, 5, 10, widths=(), code=code, linear=True).double()
    variant = Tail(p, sampling="stratified")
    variant.attach(model)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        optimizer.zero_grad()
        (model(images) - images).square().sum((1, 2, 3)).mean().backward()
        optimizer.step()
    columns = model.decoder[0].weight.detach()
    angles = []
    for k in range(1, code + 1):
        span = torch.linalg.qr(columns[:, :k]).Q
        cosines = torch.linalg.svdvals(span.T @ components[:, :k])
        angles.append(cosines.min().clamp(max=1).acos().item())
    assert angles[-1] < 0.05
    assert (max(angles) < 0.05) == (p > 0)
