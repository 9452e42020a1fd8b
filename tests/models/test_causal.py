"""Causal language models from transformers: several families, built tiny and compared with the library's own."""

import copy

import pytest
import torch
from torch import nn

from runner.compaction.places import find_places
from runner.compaction.tracing import find_coupling
from runner.errors import ConfigError
from runner.models.foreign.transformers import Transformers, import_transformers
from runner.pruning.granularities.head import Head

pytest.importorskip("transformers")

COMMON = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
GROUPED = {**COMMON, "num_key_value_heads": 2}
# Arguments, groups of heads, layers of the feed-forward part.
FAMILIES = {
    "gpt2": ({"n_embd": 16, "n_layer": 1, "n_head": 4}, 4, ("mlp.c_proj", "mlp.c_fc")),
    "llama": (GROUPED, 2, ("mlp.down_proj", "mlp.up_proj")),
    "gpt_neox": (COMMON, 4, ("mlp.dense_4h_to_h", "mlp.dense_h_to_4h")),
    "bloom": ({"hidden_size": 16, "n_layer": 1, "n_head": 4}, 4, ("mlp.dense_4h_to_h", "mlp.dense_h_to_4h")),
}
TOKENS = torch.tensor([[3, 4, 5, 6, 0, 1, 2, 39, 9], [7, 8, 1, 1, 2, 5, 5, 0, 3]])


@pytest.fixture(params=list(FAMILIES))
def family(request):
    arguments, groups, place = FAMILIES[request.param]
    model = Transformers(request.param, arguments=arguments, vocabulary=40, context=12).build().eval()
    torch.manual_seed(0)
    for parameter in model.parameters():  # so that each of them has an effect
        nn.init.normal_(parameter, std=0.3)
    return model, groups, place


@torch.no_grad()
def test_logits_with_and_without_the_cache_are_the_librarys(family):
    model, *_ = family
    logits = model(TOKENS)
    assert torch.equal(logits, model.network(input_ids=TOKENS).logits)
    state = model.start()
    parts = [model.step(part, state) for part in TOKENS.split([4, 1, 1, 1, 1, 1], dim=1)]
    assert torch.allclose(torch.cat(parts, 1), logits, atol=1e-4)


def test_all_linear_layers_but_that_of_the_logits_are_prunable(family):
    model, *_ = family
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert linear - set(model.prunable) == {"network.lm_head"}


def test_features_of_the_feed_forward_sublayer_are_found(family):
    model, _, (consumer, producer) = family
    (place,) = find_places(find_coupling(model, (TOKENS,)))
    assert place.consumer.endswith(consumer) and place.producer.endswith(producer)


@torch.no_grad()
def test_what_is_pruned_as_a_head_is_all_that_its_output_is_made_of(family):
    """If the head's output is not read, it makes no difference whether its queries, keys and values exist."""
    model, groups, _ = family
    members = Head().members(model)
    (rows,) = members.magnitude().values()
    assert rows.shape == (1, groups)
    removed = {name: torch.arange(groups)[None] == 1 for name in members.magnitude()}
    unread, gone = copy.deepcopy(model), copy.deepcopy(model)
    for name, mask in members.masks(removed).items():
        assert mask.float().mean() == 1 / groups
        gone.get_submodule(name).weight.masked_fill_(mask, 0)
        if name in removed:
            unread.get_submodule(name).weight.masked_fill_(mask, 0)
    assert torch.allclose(unread(TOKENS), gone(TOKENS), atol=1e-6)
    assert not torch.allclose(unread(TOKENS), model(TOKENS), atol=1e-2)


def test_a_folder_gives_its_own_sizes_and_weights(tmp_path):
    transformers = import_transformers()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**GROUPED, vocab_size=44, max_position_embeddings=32)
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    settled = Transformers.settle({"architecture": str(tmp_path), "weights": None, "arguments": None}, "text")
    assert (settled["architecture"], settled["arguments"]["vocab_size"]) == ("llama", 44)
    ours = Transformers(**settled, vocabulary=40, context=12).build().eval()
    assert torch.equal(ours(TOKENS), theirs(TOKENS).logits)
    # A stored run has its own weights, and the network has the same shapes without the file.
    again = Transformers(**{**settled, "weights": None}, vocabulary=40, context=12).build()
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}

    def refused(**about):
        with pytest.raises(ConfigError) as caught:
            Transformers(**settled, **about).build()
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    assert "has a vocab_size of 44, but the data has 45 tokens" in refused(vocabulary=45, context=12)
    assert "data.context=33: model.architecture=llama has 32 positions" in refused(vocabulary=40, context=33)


def test_weights_without_all_of_the_network_are_refused(tmp_path):
    arguments = FAMILIES["llama"][0]
    model = Transformers("llama", arguments=arguments, vocabulary=40, context=12).build()
    state = {name: tensor for name, tensor in model.network.state_dict().items() if name != "lm_head.weight"}
    torch.save(state, tmp_path / "w.pth")
    sizes = {**arguments, "vocab_size": 40}
    with pytest.raises(ConfigError, match=r"of another model: the file lacks lm_head.weight"):
        Transformers("llama", str(tmp_path / "w.pth"), sizes, vocabulary=40, context=12).build()


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("bert", "model.architecture=bert sees the tokens that it should predict"),
        ("vit", "transformers has no language model for it"),
    ],
)
def test_networks_that_are_no_causal_ones_are_refused(architecture, said):
    with pytest.raises(ConfigError, match=said):
        Transformers(architecture, arguments=COMMON, vocabulary=40, context=12).build()
