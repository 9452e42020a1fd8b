"""The translation task with a stub that translates by a table, so that every number is known."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from runner.data.token_batches import PairBatch
from runner.models.transformer import BEGIN, END, PAD
from runner.tasks.translation import Translation

WORDS = {3: "the", 4: "Cat", 5: "sat", 6: "on", 7: "a", 8: "mat"}


def text(ids):
    words = []
    for i in ids:
        if i == END:
            break
        if i in WORDS:
            words.append(WORDS[i])
    return " ".join(words)


def padded(rows):
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])


def batch(targets):
    target = padded([[BEGIN, *ids, END] for ids in targets])
    source = padded([[*ids, END] for ids in targets])
    return PairBatch(source, target, [text(ids) for ids in targets], [text(ids) for ids in targets], text)


class Table(nn.Module):
    """A model that almost surely repeats the source, except for the words that the table changes."""

    def __init__(self, changed=None, sure=0.9):
        super().__init__()
        self.changed = changed or {}
        self.sure = sure

    def encode(self, source):
        return source, source != PAD

    def start(self, memory, mask):
        return {"memory": memory, "position": 0}

    def _next(self, tokens):
        tokens = tokens.clone().apply_(lambda i: self.changed.get(i, i))
        rest = math.log((1 - self.sure) / 8)
        logits = torch.full((*tokens.shape, 9), rest)
        return logits.scatter(-1, tokens[..., None], math.log(self.sure))

    def step(self, tokens, state):
        state["position"] += 1
        said = state["memory"][:, state["position"] - 1 : state["position"]]
        return self._next(said)

    def forward(self, source, target):
        return self._next(source[:, : target.shape[1]])


PAIRS = [[3, 4, 5, 6, 7, 8], [3, 4, 5, 6, 7], [7, 8, 5, 6, 3, 4]]


def test_a_perfect_translation():
    found = Translation().evaluate(Table(), [batch(PAIRS)])
    assert found["bleu"] == found["bleu_uncased"] == pytest.approx(100)
    assert (found["exact_match"], found["token_accuracy"]) == (1, 1)
    assert found["examples"] == 6 + 5 + 6 + 3
    assert found["loss"] == pytest.approx(-math.log(0.9), rel=1e-5)


def test_one_wrong_word_in_each_of_two_sentences():
    """The word "mat" is translated as "the": two of 17 words and of 20 tokens."""
    found = Translation().evaluate(Table({8: 3}), [batch(PAIRS)])
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert found["token_accuracy"] == pytest.approx(18 / 20)
    # Papineni et al.: the geometric mean of the precisions; the lengths are equal, so there is no brevity penalty.
    hypotheses = ["the Cat sat on a the", "the Cat sat on a", "a the sat on the Cat"]
    assert found["bleu"] == pytest.approx(100 * math.exp(sum(map(math.log, counted(hypotheses))) / 4))


def counted(hypotheses):
    """Return n-gram precisions, counted by hand from the definition."""
    precisions = []
    for n in range(1, 5):
        matched = total = 0
        for hypothesis, reference in zip(hypotheses, [text(p) for p in PAIRS], strict=True):
            own = [tuple(hypothesis.split()[i : i + n]) for i in range(len(hypothesis.split()) - n + 1)]
            left = [tuple(reference.split()[i : i + n]) for i in range(len(reference.split()) - n + 1)]
            total += len(own)
            for gram in own:
                if gram in left:
                    left.remove(gram)
                    matched += 1
        precisions.append(matched / total)
    return precisions


def test_case_counts_in_one_of_the_two_scores():
    found = Translation()
    shouting = replace(batch(PAIRS), references=[text(ids).upper() for ids in PAIRS])
    scores = found.evaluate(Table(), [shouting])
    assert scores["bleu_uncased"] == pytest.approx(100)
    assert scores["bleu"] < 10
    assert "case:mixed" in found.signatures["bleu"] and "case:lc" in found.signatures["bleu_uncased"]
    assert "nrefs:1" in found.signatures["bleu"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_training_loss_leaves_padding_out(smoothing):
    task, pairs = Translation(label_smoothing=smoothing), batch(PAIRS)
    loss, sums, tokens = task.training_loss(Table({8: 3}), pairs)
    assert tokens == 20
    assert float(sums["token_accuracy"]) == 18
    right, wrong = -math.log(0.9), -math.log(0.1 / 8)
    # Szegedy et al.: the target has 1 - ε at the label, and ε is spread over all nine.
    even = (right + 8 * wrong) / 9
    expected = [(1 - smoothing) * own + smoothing * even for own in [right] * 18 + [wrong] * 2]
    assert float(loss) == pytest.approx(sum(expected) / 20, rel=1e-5)
    assert task.validate(Table({8: 3}), [pairs])["loss"] == pytest.approx((18 * right + 2 * wrong) / 20, rel=1e-5)


def test_batches_count_by_their_tokens():
    whole, parts = batch(PAIRS), [batch(PAIRS[:1]), batch(PAIRS[1:])]
    task = Translation()
    one, two = task.evaluate(Table({5: 4}), [whole]), task.evaluate(Table({5: 4}), parts)
    for name in ("bleu", "exact_match", "token_accuracy", "loss", "examples"):
        assert one[name] == pytest.approx(two[name])


def test_samples_are_spread_over_the_split_and_name_what_they_show():
    shown = Translation(samples=2).evaluate(Table({8: 3}), [batch(PAIRS)])["samples"]
    assert shown == [
        ["source    the Cat sat on a mat", "reference the Cat sat on a mat", "output    the Cat sat on a the"],
        ["source    the Cat sat on a", "reference the Cat sat on a", "output    the Cat sat on a"],
    ]
    assert len(Translation(samples=9).evaluate(Table(), [batch(PAIRS)])["samples"]) == 3
    assert Translation(samples=0).evaluate(Table(), [batch(PAIRS)])["samples"] == []


def test_a_network_that_never_ends_is_stopped():
    task = Translation(longer=4)
    # The source is two words and END. END is translated as a word, and the token after it as another.
    endless = Table({END: 3, PAD: 4})
    endless.start = lambda memory, mask: {
        "memory": torch.cat([memory, torch.zeros(1, 50, dtype=torch.long)], 1),
        "position": 0,
    }
    assert task.translate(endless, batch([[3, 4]])) == ["the Cat the Cat Cat Cat Cat"]
