import pytest
import torch
from torch import nn

from runner.errors import ParameterError
from runner.models.attention import rotated, rotation
from runner.models.gpt import GPT
from runner.models.heads import attention_heads
from runner.models.layers import feature_places, parameter_count

SIZES = {"vocabulary": 11, "context": 9, "layers": 2, "features": 16, "heads": 2, "feed_forward": 24}


def tiny(**more):
    torch.manual_seed(0)
    model = GPT(**{**SIZES, **more}).eval()
    for parameter in model.parameters():  # so that each of them has an effect
        nn.init.normal_(parameter, std=0.3)
    return model


TOKENS = torch.tensor([[3, 4, 5, 6, 0, 1, 2, 10, 9], [7, 8, 1, 1, 2, 5, 5, 0, 3]])


@torch.no_grad()
def test_it_computes_what_pytorchs_layers_do():
    model = tiny()
    layer = nn.TransformerEncoderLayer(16, 2, 24, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), enable_nested_tensor=False).eval()
    for other, ours in zip(theirs.layers, model.layers, strict=True):
        projections = (ours.attention.query, ours.attention.key, ours.attention.value)
        other.self_attn.in_proj_weight.copy_(torch.cat([one.weight for one in projections]))
        other.self_attn.in_proj_bias.copy_(torch.cat([one.bias for one in projections]))
        other.self_attn.out_proj.load_state_dict(ours.attention.output.state_dict())
        other.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
        other.linear2.load_state_dict(ours.feed_forward.outer.state_dict())
        other.norm1.load_state_dict(ours.attention_norm.state_dict())
        other.norm2.load_state_dict(ours.feed_forward_norm.state_dict())
    theirs.norm.load_state_dict(model.norm.state_dict())
    x = model.embedding(TOKENS) + model.embedding_of_positions.weight
    causal = nn.Transformer.generate_square_subsequent_mask(9)
    expected = theirs(x, mask=causal, is_causal=True) @ model.embedding.weight.T
    assert torch.allclose(model(TOKENS), expected, atol=1e-4)


positions = pytest.mark.parametrize("positions", ["learned", "rotary"])


@positions
@torch.no_grad()
def test_steps_with_the_cache_give_what_all_positions_at_once_do(positions):
    model = tiny(positions=positions)
    state = model.start()
    parts = [model.step(part, state) for part in TOKENS.split([4, 1, 1, 1, 1, 1], dim=1)]
    assert torch.allclose(torch.cat(parts, 1), model(TOKENS), atol=1e-5)


@positions
@torch.no_grad()
def test_no_token_sees_those_after_it(positions):
    model, other = tiny(positions=positions), TOKENS.clone()
    other[:, 5:] = 1
    assert torch.equal(model(TOKENS)[:, :5], model(other)[:, :5])
    assert not torch.equal(model(TOKENS)[:, 5:], model(other)[:, 5:])


def test_rotary_positions_turn_pairs_of_features_by_the_papers_angles():
    """Equation 15: the rotation matrix, for pairs i and i + half."""
    size, first = 6, 3
    x = torch.randn(2, 2, 4, size)
    found = rotated(x, rotation(first, 4, size, x.device))
    for t in range(4):
        matrix = torch.zeros(size, size)
        for i in range(size // 2):
            angle = torch.tensor((first + t) * 10000 ** (-2 * i / size))
            matrix[[i, i, i + 3, i + 3], [i, i + 3, i, i + 3]] = torch.stack(
                [angle.cos(), -angle.sin(), angle.sin(), angle.cos()]
            )
        assert torch.allclose(found[:, :, t], x[:, :, t] @ matrix.T, atol=1e-5)


@torch.no_grad()
def test_rotary_scores_depend_on_distances_alone_and_on_those():
    query, key = torch.randn(2, 1, 1, 1, 8)

    def score(i, j):
        one, other = (rotated(x, rotation(place, 1, 8, x.device)) for x, place in ((query, i), (key, j)))
        return float((one * other).sum())

    assert score(900, 888) == pytest.approx(score(12, 0), abs=1e-3)
    assert score(12, 0) != pytest.approx(score(11, 0), abs=1e-3)


@torch.no_grad()
def test_rotary_positions_go_beyond_the_context_and_add_no_weights():
    model = tiny(positions="rotary", layers=1)
    longer = TOKENS.repeat(1, 3)  # 27 tokens, context 9
    found = model(longer)
    state = model.start()
    parts = [model.step(part, state) for part in longer.split([20] + [1] * 7, dim=1)]
    assert torch.allclose(torch.cat(parts, 1), found, atol=1e-5)
    assert torch.allclose(found[:, :9], model(TOKENS), atol=1e-5)
    assert not [name for name in model.state_dict() if "position" in name]
    with pytest.raises(IndexError):
        tiny()(longer)


@torch.no_grad()
def test_rotary_positions_keep_the_precision_of_queries_and_keys():
    model = tiny(positions="rotary")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(TOKENS)
    assert torch.allclose(found.float(), model(TOKENS), atol=0.3)


@positions
def test_heads_and_features_are_found(positions):
    model = tiny(positions=positions)
    assert [place.consumer for place in feature_places(model)] == [f"layers.{i}.feed_forward.outer" for i in (0, 1)]
    assert [one.output for one in attention_heads(model)] == [f"layers.{i}.attention.output" for i in (0, 1)]


def test_the_usual_size_is_as_documented():
    assert round(parameter_count(GPT(vocabulary=66, context=128)) / 1e6, 1) == 0.8


def test_weights_begin_as_gpt2s():
    torch.manual_seed(0)
    model = GPT(vocabulary=66, context=64, layers=8)
    assert float(model.layers[0].attention.query.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(model.layers[0].feed_forward.outer.weight.detach().std()) == pytest.approx(0.005, rel=0.05)


def test_features_that_heads_do_not_divide_are_refused():
    with pytest.raises(ParameterError, match="a multiple of the heads, 2"):
        GPT(**{**SIZES, "features": 15})
    with pytest.raises(ParameterError, match="a multiple of 4, as rotary embeddings rotate pairs"):
        GPT(**{**SIZES, "features": 18}, positions="rotary")


def test_narrower_ones_keep_whole_pairs():
    assert GPT(**SIZES, positions="rotary", width=0.7).features_of_head == 6  # 5.6
    assert GPT(**SIZES, width=0.6).features_of_head == 5  # 4.8
