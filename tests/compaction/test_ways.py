"""Timing of networks that read tokens, and agreement of the outputs of all execution methods."""

import pytest
import torch
from torch import nn

from runner.compaction import ways
from runner.compaction.cutting import compact
from runner.compaction.sparse import NoKernels, SparseLinear, kernels, linear
from runner.compaction.ways import DECODING, FEED_FORWARD, LINEAR, WHOLE, token_ways
from runner.models.gpt import GPT
from runner.models.transformer import Transformer
from runner.pruning.apply import prune

TOKENS = torch.arange(18).view(2, 9) % 11


@pytest.fixture
def sparse_is_faster(monkeypatch):
    """Set the times so that each layer with less than half of its weights is sparse."""
    try:
        kernels()
    except NoKernels:
        pytest.skip("no C compiler")
    asked = []

    def times(calls, rounds):
        asked.append(len(calls[0].args[0]))
        return [[2.0], [1.0 if calls[0].func.weight.count_nonzero() < calls[0].func.weight.numel() / 2 else 4.0]]

    monkeypatch.setattr(linear, "in_turn", times)
    return asked


def pruned(positions="learned", granularity="weight"):
    torch.manual_seed(0)
    sizes = {"layers": 2, "features": 16, "heads": 2, "feed_forward": 24}
    model = GPT(11, 9, **sizes, positions=positions)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    prune(model, 0.9 if granularity == "weight" else 0.5, granularity)
    return model.eval()


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@torch.inference_mode()
def test_a_language_model_is_executed_whole_and_token_by_token_without_its_zeros(positions, sparse_is_faster):
    model = pruned(positions)
    notes = []
    found = token_ways(model, model, (TOKENS,), True, notes)
    keys = [("dense", "eager"), ("compact", LINEAR)]
    assert {part: list(calls) for part, calls in found.items()} == dict.fromkeys((WHOLE, FEED_FORWARD, DECODING), keys)
    assert notes == [] and set(sparse_is_faster) == {64, 1}  # layers are chosen for the number of tokens they process
    for key in keys:
        assert torch.allclose(found[WHOLE][key](), model(TOKENS), atol=1e-5)
        for _ in range(2):  # a step does not change the state that it is timed with
            assert torch.allclose(found[DECODING][key](), model(TOKENS)[:1, -1:], atol=1e-5)
    network = found[DECODING]["compact", LINEAR].args[0]
    assert {name for name, module in network.named_modules() if isinstance(module, SparseLinear)} == set(model.prunable)


@torch.inference_mode()
def test_a_cut_one_is_executed_by_pytorch_too(sparse_is_faster):
    model = pruned(granularity="head")
    found = token_ways(model, compact(model, (TOKENS,)).network, (TOKENS,), False, [])
    assert list(found[DECODING]) == [("dense", "eager"), ("compact", "eager"), ("compact", LINEAR)]
    for call in found[DECODING].values():
        assert torch.allclose(call(), model(TOKENS)[:1, -1:], atol=1e-5)


@torch.inference_mode()
def test_a_translation_model_decodes_in_another_way(sparse_is_faster):
    model = Transformer(20, layers=1, features=16, heads=2, feed_forward=32).eval()
    example = torch.randint(3, 20, (2, 5)), torch.randint(3, 20, (2, 4))
    assert token_ways(model, model, example, True, [])[DECODING] == {}


@torch.inference_mode()
def test_kernels_that_compute_something_else_are_not_timed(sparse_is_faster, monkeypatch):
    forward = SparseLinear.forward
    monkeypatch.setattr(SparseLinear, "forward", lambda self, x: forward(self, x) * 1.1)
    model, notes = pruned(), []
    assert list(ways.token_ways(model, model, (TOKENS,), True, notes)[DECODING]) == [("dense", "eager")]
    assert notes[0].startswith("sparse linear layers: not possible, its outputs differ by")
