"""Groups of weights, blocks and attention heads."""

import pytest
import torch
from torch import nn

from runner.config.choices import builtin, make, settle
from runner.models.transformer import Transformer
from runner.pruning.apply import prune
from runner.pruning.granularities.block import Block
from runner.pruning.granularities.n_of_m import NofM


def network(channels_last=False):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Conv2d(12, 6, 1), nn.Flatten(), nn.Linear(6, 2))
    return model.to(memory_format=torch.channels_last) if channels_last else model


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("m", "sparsity", "kept"), [(4, 0.5, 2), (4, 0.75, 1), (4, 0.7, 2), (2, 0.5, 1)])
def test_of_every_group_of_input_channels_the_smallest_weights_go(m, sparsity, kept, channels_last):
    model, whole = network(channels_last), network()
    prune(model, sparsity, NofM(m))
    for index in (1, 2):
        before = whole[index].weight.detach().abs().movedim(1, -1).unflatten(-1, (-1, m))
        after = model[index].weight.detach().movedim(1, -1).unflatten(-1, (-1, m)) != 0
        assert (after.sum(-1) == kept).all()
        assert (before.masked_fill(~after, 1e9).amin(-1) >= before.masked_fill(after, 0).amax(-1)).all()


def test_layers_that_groups_or_blocks_do_not_fit_are_left_whole():
    model = network()
    prune(model, 0.5, NofM(8))  # 12 input channels are not a multiple of 8
    assert (model[2].weight != 0).all() and (model[1].weight == 0).float().mean() == 0.5
    model = network()
    prune(model, 0.5, Block(4, 4))  # 6 filters are not a multiple of 4
    assert (model[2].weight != 0).all() and (model[1].weight == 0).float().mean() == 0.5
    with pytest.raises(ValueError, match="no prunable layer has a multiple of m=5 input channels"):
        NofM(5).members(model)
    with pytest.raises(ValueError, match="no prunable layer can be divided into blocks of 5 x 4"):
        Block(5, 4).members(model)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_blocks_of_smallest_norm_go_whole(channels_last):
    model, whole = network(channels_last), network()
    masks = prune(model, 0.5, Block(4, 2), layers=["1"])
    weight = whole[1].weight.detach()
    norms = {}
    for f in range(0, 12, 4):
        for i in range(0, 8, 2):
            for y in range(3):
                for x in range(3):
                    norms[f, i, y, x] = float(weight[f : f + 4, i : i + 2, y, x].norm())
    gone = set(sorted(norms, key=norms.__getitem__)[: len(norms) // 2])
    for (f, i, y, x), _ in norms.items():
        block = model[1].weight[f : f + 4, i : i + 2, y, x]
        assert bool((block == 0).all()) == ((f, i, y, x) in gone)
    assert torch.equal(masks["1"], model[1].weight == 0)
    assert Block(4, 2).members(model, ["1"]).sparsity() == 0.5


class PyTorchs(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.logits = nn.MultiheadAttention(12, 3, batch_first=True), nn.Linear(12, 2)

    def forward(self, x):
        return self.logits(self.attention(x, x, x, need_weights=False)[0])


def test_heads_of_pytorchs_attention_go_whole():
    """The outputs equal those of a network that does not read the head's output."""
    model, x = PyTorchs().eval(), torch.randn(5, 7, 12)
    attention = model.attention
    sizes = attention.in_proj_weight.detach().view(3, 3, 4, 12).square().sum((0, 2, 3))
    sizes += attention.out_proj.weight.detach().view(12, 3, 4).square().sum((0, 2))
    head = int(sizes.argmin())
    reference = PyTorchs().eval()
    with torch.no_grad():
        reference.attention.out_proj.weight.view(12, 3, 4)[:, head] = 0
    members = builtin("granularity", "head").members(model)
    assert members.sparsity() == 0
    prune(model, 0.34, "head")
    assert torch.allclose(model(x), reference(x), atol=1e-6)
    assert not attention.in_proj_weight.view(3, 3, 4, 12)[:, head].any()
    assert builtin("granularity", "head").members(model).sparsity() == pytest.approx(1 / 3)


def test_heads_of_our_transformer():
    torch.manual_seed(0)
    model = Transformer(20, layers=1, features=16, heads=4, feed_forward=8)
    prune(model, 0.5, "head")
    members = builtin("granularity", "head").members(model)
    assert len(members.attentions) == 3  # one in the encoder, two in the decoder
    assert members.sparsity() == 0.5
    for name in members.attentions:
        assert int((model.get_submodule(name).weight.view(16, 4, 4) == 0).all(0).all(-1).sum()) == 2


def test_a_model_without_attention_has_no_heads():
    with pytest.raises(ValueError, match="Sequential has no attention whose heads are known"):
        builtin("granularity", "head").members(network())


def test_parameters_name_the_rows():
    (part,) = settle("granularity", {"n_of_m": {"m": 8}})
    assert part["key"] == "n_of_m(m=8)"
    assert make("granularity", part).m == 8
