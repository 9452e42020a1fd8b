import math

import pytest
import torch
from torch import nn

from runner.data.text import TextBatch
from runner.models.gpt import GPT
from runner.tasks.decoding import continued
from runner.tasks.language_modelling import LanguageModelling


class Fixed(nn.Module):
    """The same logits at every position."""

    def __init__(self, *logits):
        super().__init__()
        self.values = torch.tensor(logits)

    def forward(self, tokens):
        return self.values.expand(*tokens.shape, -1)


def batch(targets, sizes):
    targets = torch.tensor(targets)
    return TextBatch(torch.zeros_like(targets), targets, torch.tensor(sizes), lambda ids: " ".join(map(str, ids)))


def test_metrics_are_of_all_tokens_and_bytes_together():
    model = Fixed(math.log(0.5), math.log(0.25), math.log(0.25))
    batches = [batch([[0, 1], [2, 0]], [[1, 3], [1, 1]]), batch([[0]], [[2]])]
    found = LanguageModelling(samples=1, prompt=1, longer=2).evaluate(model, batches)
    bits = 3 * 1 + 2 * 2  # three tokens of 1/2, two of 1/4
    assert found["bits_per_byte"] == pytest.approx(bits / 8)
    assert found["perplexity"] == pytest.approx(2 ** (bits / 5))
    assert found["loss"] == pytest.approx(bits / 5 * math.log(2))
    assert found["token_accuracy"] == 3 / 5 and found["examples"] == 5


def test_training_sums_metrics_over_tokens():
    model = Fixed(math.log(0.5), math.log(0.25), math.log(0.25))
    loss, sums, count = LanguageModelling().training_loss(model, batch([[0, 1], [2, 0]], [[1, 3], [1, 1]]))
    assert count == 4 and float(loss) == pytest.approx(1.5 * math.log(2))
    assert float(sums["bits_per_byte"]) / count == pytest.approx(1.0)
    assert float(sums["token_accuracy"]) == 2


@pytest.mark.parametrize(("positions", "added"), [("learned", 5), ("rotary", 50)])
def test_samples_go_on_from_windows_as_far_as_positions_reach(positions, added):
    torch.manual_seed(0)
    sizes = {"context": 8, "layers": 1, "features": 8, "heads": 2, "feed_forward": 8}
    model = GPT(vocabulary=5, **sizes, positions=positions).eval()
    rows = torch.arange(5)[:, None].expand(5, 8)
    given = TextBatch(rows, rows, torch.ones_like(rows), lambda ids: "".join(map(str, ids)))
    task = LanguageModelling(samples=2, prompt=3, longer=50)
    samples = task.evaluate(model, [given])["samples"]
    assert [prompt for prompt, _ in samples] == ["prompt '000'", "prompt '222'"]
    assert all(len(output) == len("output ''") + added for _, output in samples)
    assert samples == task.evaluate(model, [given])["samples"]


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_continuations_are_the_same_with_and_without_the_cache(temperature):
    torch.manual_seed(0)
    model = GPT(vocabulary=9, context=12, layers=2, features=8, heads=2, feed_forward=8).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    prompts = torch.tensor([[1, 2, 3], [4, 5, 6]])
    found = [
        continued(model, prompts, 9, temperature, torch.Generator().manual_seed(1), cache=cache)
        for cache in (True, False)
    ]
    assert torch.equal(*found) and found[0].shape == (2, 9)
