import torch

from runner.benchmarks.configurations import Configurations
from runner.benchmarks.language import CONTEXT, FEATURES, HEADS, LAYERS, VOCABULARY, PlainGPT, language
from runner.benchmarks.setup import Setup
from runner.models.gpt import GPT

TINY = ["model.width=0.125", "model.blocks=1", "images.train=24", "images.test=6", "images.size=8", "device=cpu"]
TINY += ["schedule.batch_size=4"]


@torch.no_grad()
def test_the_plain_model_is_the_same_one():
    plain, ours = PlainGPT(), GPT(VOCABULARY, CONTEXT, LAYERS, FEATURES, HEADS, 4 * FEATURES)
    ours.embedding.weight.copy_(plain.tokens.weight)
    ours.embedding_of_positions.weight.copy_(plain.positions.weight)
    for block, layer in zip(plain.blocks, ours.layers, strict=True):
        names = ("query", "key", "value")
        for name, weight, bias in zip(names, block.qkv.weight.chunk(3), block.qkv.bias.chunk(3), strict=True):
            getattr(layer.attention, name).load_state_dict({"weight": weight, "bias": bias})
        layer.attention.output.load_state_dict(block.out.state_dict())
        layer.feed_forward.inner.load_state_dict(block.up.state_dict())
        layer.feed_forward.outer.load_state_dict(block.down.state_dict())
    tokens = torch.randint(VOCABULARY, (2, CONTEXT))
    assert torch.allclose(ours(tokens), plain(tokens), atol=1e-5)


def test_both_sides_of_each_comparison_work(monkeypatch):
    monkeypatch.setattr("runner.benchmarks.language.WINDOWS", 2)
    monkeypatch.setattr("runner.benchmarks.language.DECODED", 1)
    configurations = Configurations([*TINY, "precision=float32"], None)
    names = []
    for comparison in language(Setup(configurations.parts, [], 2)):
        comparison.a()
        comparison.b()
        names.append((comparison.name, comparison.work[0]))
    assert names == [("training a GPT", 2 * CONTEXT), ("decoding text with cache", CONTEXT - 1)]
