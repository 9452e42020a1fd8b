import pytest
import torch
from torch import nn

from runner.errors import ParameterError
from runner.models.gpt import GPT
from runner.models.heads import attention_heads
from runner.models.layers import feature_places, parameter_count

SIZES = {"vocabulary": 11, "context": 9, "layers": 2, "features": 16, "heads": 2, "feed_forward": 24}


def tiny(**more):
    torch.manual_seed(0)
    model = GPT(**{**SIZES, **more}).eval()
    for parameter in model.parameters():  # so that each of them matters
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


@torch.no_grad()
def test_steps_with_the_cache_give_what_all_positions_at_once_do():
    model = tiny()
    state = model.start()
    parts = [model.step(part, state) for part in TOKENS.split([4, 1, 1, 1, 1, 1], dim=1)]
    assert torch.allclose(torch.cat(parts, 1), model(TOKENS), atol=1e-5)


@torch.no_grad()
def test_no_token_sees_those_after_it():
    model, other = tiny(), TOKENS.clone()
    other[:, 5:] = 1
    assert torch.equal(model(TOKENS)[:, :5], model(other)[:, :5])
    assert not torch.equal(model(TOKENS)[:, 5:], model(other)[:, 5:])


def test_heads_and_features_are_found_and_the_usual_size_is_as_documented():
    model = tiny()
    assert [place.consumer for place in feature_places(model)] == [f"layers.{i}.feed_forward.outer" for i in (0, 1)]
    assert [one.output for one in attention_heads(model)] == [f"layers.{i}.attention.output" for i in (0, 1)]
    assert round(parameter_count(GPT(vocabulary=66, context=128)) / 1e6, 1) == 0.8


def test_weights_begin_as_gpt2s():
    torch.manual_seed(0)
    model = GPT(vocabulary=66, context=64, layers=8)
    assert float(model.layers[0].attention.query.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(model.layers[0].feed_forward.outer.weight.detach().std()) == pytest.approx(0.005, rel=0.05)


def test_features_that_heads_do_not_divide_are_refused():
    with pytest.raises(ParameterError, match="a multiple of the heads, 2"):
        GPT(**{**SIZES, "features": 15})
