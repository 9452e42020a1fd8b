import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.compaction.costs import expected_parameters
from runner.compaction.cutting import compact
from runner.compaction.planning import HEADS, MULTIPLE, PADDING
from runner.compaction.proof import prove
from runner.pruning.apply import prune


def pruned(family, sparsity, granularity):
    model = family.build()
    masks = prune(model, sparsity, granularity)
    return model, masks


def check(family, result):
    batches = [family.batch(4, seed) for seed in (5, 6)]
    proof = prove(result.reference, result.network, batches, expected_parameters(result.reference, result.structure))
    assert proof.holds, proof
    assert proof.examples == 8
    return proof


@pytest.mark.parametrize(
    "granularity, sparsity, removal",
    [
        ("unit", 0.5, "exact"),
        ("unit", 0.75, "clean"),
        ("unit", 0.75, "exact"),
        ("unit", 0.9, "clean"),
        ("feature", 0.5, "clean"),
        ("feature", 0.75, "exact"),
        ("feature", 0.9, "clean"),
    ],
)
def test_the_compact_network_computes_what_the_pruned_one_does(family, sparsity, granularity, removal):
    model, _ = pruned(family, sparsity, granularity)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = compact(model, family.batch(), removal, round_to=8 if sparsity == 0.75 else 1)
    check(family, result)
    whole = sum(parameter.numel() for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in result.network.parameters()) < whole
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    if removal == "exact":
        batch = family.batch(4, 7)
        with torch.no_grad():
            assert torch.equal(result.reference(*batch), model(*batch))


@pytest.mark.parametrize(
    "removal, fold, scatter", [("clean", True, True), ("exact", True, True), ("exact", False, False)]
)
def test_batch_norm_folded_and_sums_written_whole(family, removal, fold, scatter):
    model, _ = pruned(family, 0.75, "unit")
    result = compact(model, family.batch(), removal, scatter=scatter, fold=fold)
    check(family, result)
    assert scatter or not result.structure.scattered
    norms = [m for m in result.network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert not fold or len(norms) == len(
        [n for n, m in model.named_modules() if "Norm" in type(m).__name__ and hasattr(m, "running_mean")]
    ) - len(result.structure.folded)


@pytest.mark.parametrize("name", ["resnet", "vgg", "wide", "bottleneck"])
def test_clean_filters_are_gone_and_layers_have_the_width_that_the_masks_say(families, name):
    model, masks = pruned(families[name], 0.75, "unit")
    result = compact(model, families[name].batch())
    left = {row.name: row for row in result.report}
    for layer, mask in masks.items():
        assert left[layer].filters_left == int((~mask.flatten()).sum())
        assert left[layer].stays == {}
        module = result.network.get_submodule(layer)
        assert len(getattr(module, "module", module).weight) == left[layer].filters_left


def test_exact_says_what_padding_keeps(families):
    model, masks = pruned(families["vgg"], 0.75, "unit")
    result = compact(model, families["vgg"].batch(), "exact")
    rows = {row.name: row for row in result.report}
    # If ReLU makes the shift zero, no constant has to be added, so some of these filters are removed.
    second = rows["features.3"]
    assert second.stays.keys() == {PADDING}
    assert 0 < second.stays[PADDING] < int(masks["features.3"].sum())
    # Dense layers have no padding: all filters are removed, and the next bias absorbs their constants.
    assert rows["dense.0"].filters_left == int((~masks["dense.0"].flatten()).sum())
    assert rows["dense.0"].stays == {}


def test_what_is_reshaped_stays_and_the_report_says_so(families):
    model, masks = pruned(families["autoencoder-conv"], 0.5, "unit")
    rows = {row.name: row for row in compact(model, families["autoencoder-conv"].batch()).report}
    assert rows["from_code"].stays == {"goes through reshaping to (12, 3, 3)": int(masks["from_code"].sum())}


def test_round_to_keeps_multiples(families):
    model, _ = pruned(families["vgg"], 0.9, "unit")
    result = compact(model, families["vgg"].batch(), round_to=8)
    widths = [row.filters_left for row in result.report[:-1]]
    assert all(width % 8 == 0 for width in widths)
    assert any(MULTIPLE in row.stays for row in result.report)
    check(families["vgg"], result)


def test_one_filter_stays_where_all_are_zero(families):
    family = families["vgg"]
    model = family.build()
    with torch.no_grad():
        model.features[3].weight.zero_()
        model.dense[0].weight.zero_()
    result = compact(model, family.batch())
    assert result.network.features[3].weight.shape[0] == 1
    assert result.network.dense[0].weight.shape[0] == 1
    check(family, result)


def test_filters_without_batch_norm_leave_their_constant_in_the_next_bias(families):
    family = families["lenet"]  # unpadded convolutions, so no filter has to stay
    model, _ = pruned(family, 0.5, "unit")
    for removal in ("exact", "clean"):
        result = compact(model, family.batch(), removal)
        assert not any(row.stays for row in result.report)
        assert not torch.equal(result.network.logits.bias, model.logits.bias)
        with torch.no_grad():
            batch = family.batch(4, 9)
            assert torch.allclose(result.network(*batch), model(*batch), rtol=1e-4, atol=1e-5)


def test_recalibration_sees_the_cleaned_network(families):
    family = families["resnet"]
    model, masks = pruned(family, 0.75, "unit")

    def recalibrate(network):
        assert not network.blocks[0].norm1.bias[masks["blocks.0.conv1"].flatten()].any()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.add_(0.1)
        network.train()

    result = compact(model, family.batch(), recalibrate=recalibrate)
    assert torch.allclose(result.reference.norm.running_mean, model.norm.running_mean + 0.1)
    assert not result.reference.training
    check(family, result)


def test_whole_heads_go(families):
    family = families["transformer"]
    model = family.build()
    attention = model.encoder[0].attention
    with torch.no_grad():
        for layer in (attention.query, attention.key, attention.value):
            layer.weight.unflatten(0, (4, 8))[[0, 2]] = 0
        attention.output.weight.unflatten(1, (4, 8))[:, [0, 2]] = 0
        model.decoder[0].cross_attention.output.weight[:, 8:16] = 0  # no layer reads this head, but its weights exist
    result = compact(model, family.batch(), "exact")
    assert result.network.encoder[0].attention.heads == 2
    assert result.network.encoder[0].attention.query.weight.shape == (16, 32)
    assert result.network.encoder[0].attention.query.matrices == 2
    assert result.network.decoder[0].cross_attention.heads == 3
    check(family, result)
    # decoding step by step uses the same shapes
    with torch.no_grad():
        source, target = family.batch(3, 8)
        state = result.network.start(*result.network.encode(source))
        logits = [result.network.step(target[:, i, None], state)[:, 0] for i in range(target.shape[1])]
        assert torch.allclose(torch.stack(logits, 1), model(source, target), rtol=1e-4, atol=1e-5)


def test_heads_keep_as_many_features_each(families):
    family = families["transformer"]
    model = family.build()
    with torch.no_grad():
        value = model.encoder[0].attention.value.weight
        value[[0, 1, 2, 8, 9, 16, 17, 24, 25]] = 0  # three of the first head, two of the others
    result = compact(model, family.batch())
    row = {row.name: row for row in result.report}["encoder.0.attention.value"]
    assert row.filters_left == 32 - 4 * 2
    assert row.stays == {HEADS: 1}
    check(family, result)


@pytest.mark.parametrize("name", ["gpt", "gpt-rotary"])
def test_heads_of_a_language_model_go_and_it_still_decodes(families, name):
    family = families[name]
    model = family.build()
    attention = model.layers[0].attention
    with torch.no_grad():
        for layer in (attention.query, attention.key, attention.value):
            layer.weight.unflatten(0, (4, 8))[[0, 2]] = 0
        attention.output.weight.unflatten(1, (4, 8))[:, [0, 2]] = 0
        attention.key.weight.unflatten(0, (4, 8))[:, :3] = 0  # three features of each head's keys
        attention.value.weight.unflatten(0, (4, 8))[:, 5] = 0
        model.layers[0].feed_forward.inner.weight[::2] = 0
    result = compact(model, family.batch())
    cut = result.network.layers[0]
    assert cut.attention.heads == 2
    # Rotary positions mix the features of keys in pairs, so single features cannot be removed.
    assert cut.attention.key.weight.shape[0] == 2 * (8 if name == "gpt-rotary" else 5)
    assert cut.attention.value.weight.shape[0] == 2 * 7
    assert cut.feed_forward.inner.weight.shape[0] == 32
    check(family, result)
    with torch.no_grad():
        (tokens,) = family.batch(3, 8)
        state = result.network.start()
        logits = [result.network.step(tokens[:, i, None], state)[:, 0] for i in range(tokens.shape[1])]
        assert torch.allclose(torch.stack(logits, 1), result.reference(tokens), rtol=1e-4, atol=1e-5)


def test_masks_with_nothing_zero_change_nothing(family):
    model = family.build()
    result = compact(model, family.batch())
    assert {k: v.shape for k, v in result.network.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    assert result.structure.plain() == {"layers": {}, "channels": {}, "heads": {}, "folded": [], "scattered": {}}


class Foreign(nn.Module):
    """A residual sum, a transposed and a depthwise convolution in blocks from outside this package."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 8, 1)
        self.outer_norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(12, 12, 3, groups=12)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.logits = nn.Linear(6, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        y = self.outer_norm(self.outer(self.depthwise(F.relu(self.inner(F.pad(x, (1, 1, 1, 1)))))))
        return self.logits(F.relu(self.up(F.relu(x + y))).mean((2, 3)))


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("removal", ["clean", "exact"])
def test_a_network_that_declares_nothing(trained, removal, fold):
    torch.manual_seed(0)
    model = trained(Foreign())
    with torch.no_grad():
        model.inner.weight[::2] = 0
        model.outer.weight[1:6] = 0
        model.up.weight[:, 2:5] = 0
    x = torch.randn(4, 3, 8, 8)
    result = compact(model, (x,), removal, fold=fold)
    assert result.network.inner.weight.shape[0] == 6
    assert result.network.depthwise.groups == 6
    assert result.network.outer.weight.shape[:2] == (3, 6)
    assert result.network.up.weight.shape[:2] == (8, 3)
    expected = expected_parameters(model, result.structure)
    assert prove(result.reference, result.network, [(x,), (x + 1,)], expected).holds


def test_the_compact_network_can_be_trained_further(families):
    family = families["resnet"]
    model, _ = pruned(family, 0.75, "unit")
    network = compact(model, family.batch()).network.train()
    network(*family.batch()).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    copy.deepcopy(network)


@pytest.mark.parametrize("arguments, words", [({"removal": "soft"}, "removal=soft"), ({"round_to": 0}, "round_to=0")])
def test_bad_arguments(families, arguments, words):
    with pytest.raises(ValueError, match=words):
        compact(families["mlp"].build(), families["mlp"].batch(), **arguments)
