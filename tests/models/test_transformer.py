import math
import re

import pytest
import torch
from torch import nn

from runner.config.compose import Composer
from runner.data import vocabulary
from runner.models.layers import feature_places, matrices_in, parameter_count, prunable_layers
from runner.models.transformer import BEGIN, END, PAD, Transformer, positions

SIZES = {"vocabulary": 11, "layers": 2, "features": 16, "heads": 2, "feed_forward": 24}
BASE = {"vocabulary": 37_000, "layers": 6, "features": 512, "heads": 8, "feed_forward": 2048}
SOURCE = torch.tensor([[3, 4, 5, 6, END], [7, 8, END, PAD, PAD]])
TARGET = torch.tensor([[BEGIN, 9, 10, 3], [BEGIN, 5, PAD, PAD]])


def tiny(**more):
    torch.manual_seed(0)
    model = Transformer(**{**SIZES, "residual_dropout": 0.0, **more})
    for module in model.modules():  # so that a missing bias or norm changes the output
        if isinstance(module, nn.Linear | nn.LayerNorm):
            nn.init.normal_(module.bias)
    return model


def copy_attention(theirs, ours):
    projections = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
    theirs.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())


@torch.no_grad()
def pytorch_transformer(model):
    """torch.nn.Transformer with the same weights."""
    theirs = nn.Transformer(16, 2, 2, 2, 24, dropout=0.0, batch_first=True, norm_first=True)
    for layer, ours in zip(
        [*theirs.encoder.layers, *theirs.decoder.layers], [*model.encoder, *model.decoder], strict=True
    ):
        copy_attention(layer.self_attn, ours.attention)
        norms = [ours.attention_norm, ours.feed_forward_norm]
        if hasattr(ours, "cross_attention"):
            copy_attention(layer.multihead_attn, ours.cross_attention)
            norms.insert(1, ours.cross_attention_norm)
        for i, norm in enumerate(norms, 1):
            getattr(layer, f"norm{i}").load_state_dict(norm.state_dict())
        layer.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
        layer.linear2.load_state_dict(ours.feed_forward.outer.state_dict())
    theirs.encoder.norm.load_state_dict(model.encoder_norm.state_dict())
    theirs.decoder.norm.load_state_dict(model.decoder_norm.state_dict())
    return theirs


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_it_computes_what_pytorchs_transformer_does():
    model = tiny()

    def embed(tokens):
        return model.embedding(tokens) * 4 + positions(0, tokens.shape[1], 16, tokens.device)  # √16

    padding = SOURCE == PAD
    causal = nn.Transformer.generate_square_subsequent_mask(TARGET.shape[1])
    decoded = pytorch_transformer(model)(
        embed(SOURCE), embed(TARGET), tgt_mask=causal, src_key_padding_mask=padding, memory_key_padding_mask=padding
    )
    assert torch.allclose(model(SOURCE, TARGET), decoded @ model.embedding.weight.T, atol=1e-5)


def test_special_tokens_are_those_of_the_vocabulary():
    assert (PAD, BEGIN, END) == (vocabulary.PAD, vocabulary.BEGIN, vocabulary.END)


def test_positions_are_the_papers_sines_and_cosines():
    table = positions(3, 2, 6, torch.device("cpu"))
    for row, position in enumerate((3, 4)):
        angles = [position / 10_000 ** (2 * i / 6) for i in range(3)]
        expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert table[row].tolist() == pytest.approx(expected, abs=1e-6)


def test_later_tokens_change_nothing_before_them():
    model, changed = tiny(), TARGET.clone()
    changed[:, 2:] = 7
    before, after = model(SOURCE, TARGET), model(SOURCE, changed)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2:], after[:, 2:])


def test_padding_of_the_source_changes_nothing_but_tokens_do():
    model = tiny()
    alone = model(SOURCE[1:, :3], TARGET[1:])
    assert torch.allclose(model(SOURCE, TARGET)[1:], alone, atol=1e-5)
    assert not torch.allclose(model(SOURCE[1:, [1, 0, 2]], TARGET[1:]), alone, atol=1e-2)


def test_steps_give_the_logits_of_all_positions_at_once():
    model = tiny()
    expected = model(SOURCE, TARGET)
    state = model.start(*model.encode(SOURCE))
    for position in range(TARGET.shape[1]):
        logits = model.step(TARGET[:, position : position + 1], state)
        assert torch.allclose(logits[:, 0], expected[:, position], atol=1e-5)


def test_hypotheses_of_a_sentence_do_not_see_each_other_and_can_be_exchanged():
    model = tiny()
    first, second = torch.tensor([[BEGIN, 9, 10]] * 2), torch.tensor([[BEGIN, 4, 6]] * 2)
    state = model.start(*model.encode(SOURCE))
    for position in range(2):
        model.step(torch.stack([first[:, position], second[:, position]], 1), state)
    state.select(torch.tensor([1, 0, 3, 3]))  # swapped for one sentence; for the other, the second is duplicated
    logits = model.step(torch.tensor([[6, 10], [6, 6]]), state)
    firsts, seconds = model(SOURCE, first)[:, -1], model(SOURCE, second)[:, -1]
    assert torch.allclose(logits, torch.stack([torch.stack([seconds[0], firsts[0]]), seconds[[1, 1]]]), atol=1e-5)


def test_a_narrower_feed_forward_still_works():
    model, cut = tiny(), tiny()
    with torch.no_grad():
        for layer, other in zip([*model.encoder, *model.decoder], [*cut.encoder, *cut.decoder], strict=True):
            layer.feed_forward.outer.weight[:, ::2] = 0
            inner, outer = other.feed_forward.inner, other.feed_forward.outer
            inner.weight, inner.bias = nn.Parameter(inner.weight[1::2]), nn.Parameter(inner.bias[1::2])
            outer.weight = nn.Parameter(outer.weight[:, 1::2])
        assert torch.allclose(model(SOURCE, TARGET), cut(SOURCE, TARGET), atol=1e-5)


def test_export_with_dynamic_batch_and_lengths():
    model = tiny(layers=1).eval()
    dim = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        model, (SOURCE, TARGET), dynamic_shapes=({0: dim, 1: dim}, {0: dim, 1: dim}), strict=False
    ).module()
    source, target = torch.randint(3, 11, (3, 7)), torch.randint(3, 11, (3, 9))
    source[0, 4:] = PAD
    assert torch.allclose(program(source, target), model(source, target), atol=1e-5)


def test_gradients_reach_all_parameters():
    model = tiny()
    model(SOURCE, TARGET).log_softmax(-1)[..., 5].sum().backward()
    # A key's bias adds the same to all scores of a query, which has no effect.
    without = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-6]
    assert without == [name for name, _ in model.named_parameters() if name.endswith("key.bias")]


def test_dropout_is_of_training_only():
    model = tiny(residual_dropout=0.5)
    assert not torch.equal(model(SOURCE, TARGET), model(SOURCE, TARGET))
    model.eval()
    assert torch.equal(model(SOURCE, TARGET), tiny()(SOURCE, TARGET))


def test_initial_weights():
    torch.manual_seed(0)
    model = Transformer(vocabulary=1000, layers=1, features=64, feed_forward=256)
    assert model.embedding.weight.std().item() == pytest.approx(64**-0.5, rel=0.02)
    inner = model.encoder[0].feed_forward.inner
    assert inner.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (64 + 256)), rel=0.01)
    assert not inner.bias.any()


def test_parameters_of_the_original_base_model():
    with torch.device("meta"):
        model = Transformer(**BASE)
    attention, feed_forward, norm = 4 * (512 + 1) * 512, (512 + 1) * 2048 + (2048 + 1) * 512, 2 * 512
    encoder, decoder = attention + feed_forward + 2 * norm, 2 * attention + feed_forward + 3 * norm
    # Vaswani et al., table 3, give 65 million at "about 37000 tokens".
    assert parameter_count(model) == 37_000 * 512 + 6 * (encoder + decoder) + 2 * norm == 63_084_544
    weights = sum(layer.weight.numel() for layer in prunable_layers(model).values())
    assert weights == 6 * (3 * 4 * 512 * 512 + 2 * 2 * 512 * 2048) == 44_040_192


def test_prunable_are_projections_and_feed_forward_matrices():
    model = tiny(layers=1)
    projections, matrices = ("query", "key", "value", "output"), ("inner", "outer")
    assert list(prunable_layers(model)) == [
        *(f"encoder.0.attention.{name}" for name in projections),
        *(f"encoder.0.feed_forward.{name}" for name in matrices),
        *(f"decoder.0.attention.{name}" for name in projections),
        *(f"decoder.0.cross_attention.{name}" for name in projections),
        *(f"decoder.0.feed_forward.{name}" for name in matrices),
    ]


def test_each_heads_part_of_an_input_projection_is_a_matrix_of_its_own():
    for name, layer in prunable_layers(tiny()).items():
        assert matrices_in(layer) == (2 if re.search(r"\.(query|key|value)$", name) else 1)


def test_feature_places_are_the_feed_forwards_hidden_units():
    model = tiny()
    modules = dict(model.named_modules())
    assert len(feature_places(model)) == 4
    for place in feature_places(model):
        consumer, producer = modules[place.consumer], modules[place.producer]
        assert consumer.in_features == producer.out_features == 24
        assert place.dim == -1
    # Cutting a feature is equivalent to setting that column to zero.
    place = feature_places(model)[0]

    def cut(module, inputs):
        return inputs[0].index_fill(place.dim, torch.tensor([3]), 0)

    handle = modules[place.consumer].register_forward_pre_hook(cut)
    expected = model(SOURCE, TARGET)
    handle.remove()
    with torch.no_grad():
        modules[place.consumer].weight[:, 3] = 0
    assert torch.allclose(model(SOURCE, TARGET), expected, atol=1e-5)


@pytest.mark.parametrize(("width", "features", "hidden"), [(0.5, 8, 12), (0.1, 4, 2), (0.6, 8, 14), (1.5, 24, 36)])
def test_width_keeps_features_a_multiple_of_twice_the_heads(width, features, hidden):
    model = tiny(width=width)
    assert model.embedding.embedding_dim == features
    assert model.encoder[0].feed_forward.inner.out_features == hidden
    assert model(SOURCE, TARGET).shape == (2, 4, 11)


@pytest.mark.parametrize(("features", "heads"), [(18, 4), (0, 4), (4, 4)])
def test_features_that_heads_cannot_share_are_refused(features, heads):
    message = rf"^features={features}: expected a multiple of 2 x heads, 8$"
    with pytest.raises(ValueError, match=message):
        Transformer(11, features=features, heads=heads)


@pytest.mark.parametrize("model", ["transformer", "transformer_base"])
def test_choosing_it_chooses_translation_unless_the_user_says_otherwise(model):
    def chosen(*more):
        config = Composer("train").single([f"model={model}", *more])
        return [config[group]["name"] for group in ("data", "task", "schedule")]

    assert chosen() == ["numbers", "translation", "inverse_square_root"]
    assert chosen("schedule=adam", "data=wmt14", "data.root=.") == ["wmt14", "translation", "adam"]
