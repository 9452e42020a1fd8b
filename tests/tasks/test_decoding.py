import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from runner.models.transformer import BEGIN, END, PAD, Transformer
from runner.tasks.decoding import beam_search, greedy

SYMBOLS = (END, 3, 4)
VOCABULARY = 5


def transformer(seed=0, vocabulary=VOCABULARY):
    torch.manual_seed(seed)
    model = Transformer(vocabulary, layers=2, features=8, heads=2, feed_forward=12).eval()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)  # larger than initial weights, so that sentences differ and some end
    return model


def sources(count=6, seed=0, vocabulary=VOCABULARY):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(3, vocabulary, (count, 5), generator=generator)
    for row in range(count):
        source[row, 1 + row % 4] = END
        source[row, 2 + row % 4 :] = PAD
    return source


class State:
    def __init__(self, prefixes):
        self.prefixes = prefixes

    def select(self, rows):
        flat = [prefix for hypotheses in self.prefixes for prefix in hypotheses]
        beam = len(self.prefixes[0])
        chosen = [flat[row] for row in rows]
        self.prefixes = [chosen[i : i + beam] for i in range(0, len(chosen), beam)]


class Table:
    """A model whose probabilities are a table over sentences and prefixes. A source is the number of the sentence."""

    def __init__(self, probabilities, specials=9.0):
        self.probabilities = probabilities  # (sentence, prefix) → probabilities of END, 3, 4
        self.specials = specials  # how much likelier PAD and BEGIN each are than the three together

    @classmethod
    def random(cls, sentences, limit, seed):
        generator, rarely_ends = torch.Generator().manual_seed(seed), torch.tensor([-2.0, 0.0, 0.0])
        prefixes = [p for n in range(limit) for p in itertools.product((3, 4), repeat=n)]
        return cls(
            {
                (sentence, prefix): (2 * torch.randn(3, generator=generator) + rarely_ends).softmax(0).tolist()
                for sentence in range(sentences)
                for prefix in prefixes
            },
            specials=0.1,
        )

    def encode(self, source):
        self.sentences = source[:, 0].tolist()
        return source, source

    def start(self, memory, mask):
        return State(None)

    def step(self, tokens, state):
        if state.prefixes is None:
            assert (tokens == BEGIN).all()
            state.prefixes = [[()] * tokens.shape[1] for _ in self.sentences]
        else:
            state.prefixes = [
                [(*prefix, token) for prefix, token in zip(*row, strict=True)]
                for row in zip(state.prefixes, tokens.tolist(), strict=True)
            ]
        unknown = [1 / 3] * 3  # probabilities after END, which make no difference
        rows = [
            [
                [self.specials, self.specials, *self.probabilities.get((sentence, prefix), unknown)]
                for prefix in prefixes
            ]
            for sentence, prefixes in zip(self.sentences, state.prefixes, strict=True)
        ]
        return torch.tensor(rows).log()


def score(model, sentence, tokens):
    """Return a sentence's log-probability, accounting for the share of PAD and BEGIN at each step."""
    left = math.log(1 + 2 * model.specials)
    return sum(
        math.log(model.probabilities[sentence, tokens[:i]][SYMBOLS.index(token)]) - left
        for i, token in enumerate(tokens)
    )


def penalised(model, sentence, tokens, length_penalty):
    return score(model, sentence, tokens) / ((5 + len(tokens)) / 6) ** length_penalty


def all_sentences(limit):
    return [(*words, END) for n in range(limit) for words in itertools.product((3, 4), repeat=n)]


def plain_beam_search(model, sentence, beam, length_penalty, limit):
    """Decode one sentence with lists, always up to the limit."""
    running, ended = [()], []
    for _ in range(limit):
        extended = [(*prefix, token) for prefix in running for token in SYMBOLS]
        extended.sort(key=lambda tokens: -score(model, sentence, tokens))
        ended += [tokens for tokens in extended[:beam] if tokens[-1] == END]
        running = [tokens for tokens in extended if tokens[-1] != END][:beam]
    return max(ended, key=lambda tokens: penalised(model, sentence, tokens, length_penalty), default=running[0])


def sentences_in(output):
    """Return the rows without padding, and check that END is followed only by padding."""
    rows = []
    for row in output.tolist():
        length = row.index(END) + 1 if END in row else len([token for token in row if token != PAD])
        assert all(token == PAD for token in row[length:])
        rows.append(tuple(row[:length]))
    return rows


@pytest.mark.parametrize(("vocabulary", "seed"), [(5, 4), (8, 2)])
def test_greedy_takes_the_likeliest_token_with_and_without_cache(vocabulary, seed):
    model, source = transformer(seed, vocabulary), sources(8, vocabulary=vocabulary)
    output = greedy(model, source, 12)
    assert torch.equal(greedy(model, source, 12, cache=False), output)
    target = torch.cat([torch.full((8, 1), BEGIN), output[:, :-1]], 1)
    likeliest = model(source, target)[..., END:].argmax(-1) + END
    assert torch.equal(output, likeliest.where(output != PAD, PAD))
    ends = {sentence[-1] == END for sentence in sentences_in(output)}
    assert ends == {True, False}


def test_greedy_stops_when_all_have_ended():
    step = {(): [0.1, 0.2, 0.7], (4,): [0.1, 0.8, 0.1], (4, 3): [0.7, 0.2, 0.1]}
    model = Table({(0, prefix): p for prefix, p in step.items()} | {(1, ()): [0.9, 0.05, 0.05]})
    output = greedy(model, torch.tensor([[0], [1]]), 50)
    assert output.tolist() == [[4, 3, END], [END, PAD, PAD]]


@pytest.mark.parametrize("decode", [greedy, lambda *given: beam_search(given[0], given[1], 2, 0.6, given[2])])
def test_each_sentence_keeps_to_its_own_limit(decode):
    never_ends = {prefix: [1e-9, 0.7, 0.3] for n in range(5) for prefix in itertools.product((3, 4), repeat=n)}
    model = Table({(row, prefix): p for row in range(3) for prefix, p in never_ends.items()})
    output = decode(model, torch.tensor([[0], [1], [2]]), torch.tensor([2, 0, 5]))
    assert output.tolist() == [[3, 3, PAD, PAD, PAD], [PAD] * 5, [3] * 5]
    assert decode(model, torch.tensor([[0], [1]]), 0).shape == (2, 0)


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_without_length_penalty_is_greedy(seed):
    model, source = transformer(seed), sources(8, seed)
    limits = torch.tensor([1, 2, 3, 5, 8, 9, 9, 9])
    expected = greedy(model, source, limits)
    assert sentences_in(beam_search(model, source, 1, 0.0, limits)) == sentences_in(expected)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_as_wide_as_all_continuations_finds_the_best_of_all_sentences(seed, length_penalty):
    model = Table.random(4, 4, seed)
    output = beam_search(model, torch.arange(4)[:, None], 24, length_penalty, 4)
    expected = [
        max(all_sentences(4), key=lambda tokens, n=n: penalised(model, n, tokens, length_penalty)) for n in range(4)
    ]
    assert sentences_in(output) == expected


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("beam", [1, 2, 3])
def test_stopping_early_and_batches_change_nothing(beam, length_penalty):
    limits = [6, 3, 1, 5, 6, 4, 6, 6]
    model = Table.random(len(limits), 6, seed=beam)
    output = beam_search(model, torch.arange(len(limits))[:, None], beam, length_penalty, torch.tensor(limits))
    expected = [plain_beam_search(model, n, beam, length_penalty, limit) for n, limit in enumerate(limits)]
    assert sentences_in(output) == expected


@torch.no_grad()
def test_with_the_transformer_a_wide_beam_finds_the_best_of_all_sentences():
    model, source, limit = transformer(7), sources(4), 4
    candidates = all_sentences(limit)
    output = sentences_in(beam_search(model, source, 24, 2.0, limit))
    for row, found in enumerate(output):
        values = {}
        for tokens in candidates:
            target = torch.tensor([[BEGIN, *tokens[:-1]]])
            logs = model(source[row : row + 1], target)[0].log_softmax(-1)
            total = sum(logs[i, token].item() for i, token in enumerate(tokens))
            values[tokens] = total / ((5 + len(tokens)) / 6) ** 2.0
        assert found == max(candidates, key=values.__getitem__)
    assert len(set(output)) > 1


def test_a_length_penalty_prefers_the_longer_sentence():
    def sure(token):
        return [0.999 if token == symbol else 0.0005 for symbol in SYMBOLS]

    steps = {(): [0.55, 0.449, 0.001], (3,): sure(4), (3, 4): sure(4), (3, 4, 4): sure(END)}
    model = Table({(0, prefix): p for prefix, p in steps.items()}, specials=0.0)
    source = torch.zeros(1, 1, dtype=torch.long)
    output = {alpha: sentences_in(beam_search(model, source, 2, alpha, 4))[0] for alpha in (0.0, 2.0)}
    assert output == {0.0: (END,), 2.0: (3, 4, 4, END)}


def test_bf16():
    model, source = transformer(vocabulary=30), sources(vocabulary=30)
    with torch.autocast("cpu", torch.bfloat16):
        assert greedy(model, source, 6).shape == (6, 6)
        assert len(sentences_in(beam_search(model, source, 3, 0.6, 6))) == 6


class Counting(nn.Module):
    calls = 0

    def forward(self, weight):
        self.calls += 1
        return weight


@pytest.mark.parametrize("decode", [greedy, lambda *given: beam_search(given[0], given[1], 2, 0.6, given[2])])
def test_a_variants_weights_are_computed_once_and_anew_the_next_time(decode):
    model, counting = transformer(), Counting()
    parametrize.register_parametrization(model.decoder[0].attention.query, "weight", counting, unsafe=True)
    for times in (1, 2):
        decode(model, sources(), 5)
        assert counting.calls == times
