import itertools
import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runner.data.token_batches import PairBatch, Sentences, TokenBatches, TokenPairs, slices
from runner.data.vocabulary import BEGIN, END, PAD


def sentences(rows: list[list[int]]) -> Sentences:
    """Create sentences as `Sentences.encoded` does, from rows of ids without END."""
    tokens = [PAD, *itertools.chain.from_iterable([*row, END] for row in rows)]
    return Sentences.joined(torch.tensor(tokens, dtype=torch.int32), torch.tensor([len(row) + 1 for row in rows]))


def numbered(count: int = 200, seed: int = 0) -> TokenPairs:
    """Return pairs of which the n-th repeats id n + 10 on one side and its double on the other, each 1 to 15 times."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 16, (count, 2), generator=generator).tolist()
    source = [[number + 10] * length for number, (length, _) in enumerate(lengths)]
    target = [[2 * (number + 10)] * length for number, (_, length) in enumerate(lengths)]
    return TokenPairs(sentences(source), sentences(target))


def numbers(batch: PairBatch) -> list[int]:
    assert torch.equal(batch.target[:, 1], 2 * batch.source[:, 0])
    return (batch.source[:, 0] - 10).tolist()


def epoch(batches: TokenBatches, number: int) -> list[PairBatch]:
    return [batches.batch(number * batches.steps_per_epoch + step) for step in range(batches.steps_per_epoch)]


def same(one: PairBatch, other: PairBatch) -> bool:
    return torch.equal(one.source, other.source) and torch.equal(one.target, other.target)


def test_a_batch_has_begin_end_and_padding_in_their_places() -> None:
    pairs = TokenPairs(sentences([[7, 8, 9], [5], [6, 6]]), sentences([[3], [4, 5, 6], [7]]))
    batch = pairs.batch(torch.tensor([1, 0]))
    assert batch.source.tolist() == [[5, END, PAD, PAD], [7, 8, 9, END]]
    assert batch.target.tolist() == [[BEGIN, 4, 5, 6, END], [BEGIN, 3, END, PAD, PAD]]
    assert batch.source.dtype == batch.target.dtype == torch.int64
    assert len(batch) == 2 and batch.sources == batch.references == [] and batch.decode is None


def test_no_longer_than_the_longest_of_its_own_pairs() -> None:
    pairs = TokenPairs(sentences([[7] * 9, [5], [6, 6]]), sentences([[3] * 9, [4], [7]]))
    batch = pairs.batch(torch.tensor([1, 2]))
    assert batch.source.shape == (2, 3) and batch.target.shape == (2, 3)


def test_leaving_out_and_cutting() -> None:
    three = sentences([[7, 8, 9], [5], [6, 4]])
    kept = three.kept(torch.tensor([True, False, True]))
    assert len(kept) == 2 and kept.padded(torch.arange(2)).tolist() == [[7, 8, 9, END], [6, 4, END, PAD]]
    cut = three.cut(2)
    assert cut.padded(torch.arange(3)).tolist() == [[7, 8, END], [5, END, PAD], [6, 4, END]]
    assert cut.lengths.tolist() == [3, 2, 3] and len(cut.tokens) == 9


def test_moving_takes_the_tokens_along_and_keeps_the_texts() -> None:
    pairs = numbered(5).to("meta")
    assert pairs.source.tokens.is_meta and not pairs.source.lengths.is_meta
    batch = PairBatch(torch.zeros(1, 2), torch.zeros(1, 2), ["a"], ["b"], str).to("meta")
    assert batch.source.is_meta and batch.target.is_meta
    assert (batch.sources, batch.references, batch.decode) == (["a"], ["b"], str)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    pairs = numbered()
    batches = TokenBatches(pairs, 100, seed=3)
    steps = 2 * batches.steps_per_epoch + 3
    forward = [batches.batch(step) for step in range(steps)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for step in (steps - 1, 0, 7, 7, 4):
        for again in (batches, TokenBatches(numbered(), 100, seed=3)):
            assert same(again.batch(step), forward[step])
    assert torch.equal(torch.get_rng_state(), before)
    other = TokenBatches(pairs, 100, seed=4)
    assert any(not same(other.batch(step), forward[step]) for step in range(3))


def test_every_pair_comes_once_an_epoch_in_batches_of_each_epochs_own() -> None:
    batches = TokenBatches(numbered(200), 100, seed=0)
    epochs = [[numbers(batch) for batch in epoch(batches, number)] for number in range(4)]
    for shown in epochs:
        assert sorted(itertools.chain.from_iterable(shown)) == list(range(200))
    compositions = [{frozenset(batch) for batch in shown} for shown in epochs]
    assert all(len(one & other) < 0.6 * len(one) for one, other in itertools.combinations(compositions, 2))


def test_short_and_long_batches_come_in_any_order() -> None:
    batches = TokenBatches(numbered(200), 100, seed=0)
    # Sorted by length, the n-th longer side has the same length in every epoch.
    lengths = [
        [max(batch.source.shape[1], batch.target.shape[1] - 1) for batch in epoch(batches, number)]
        for number in range(3)
    ]
    assert all(shown != sorted(shown) and sorted(shown) == sorted(lengths[0]) for shown in lengths)
    assert lengths[0] != lengths[1] != lengths[2]


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60),
    st.integers(1, 120),
    st.integers(0, 3),
)
def test_no_batch_is_larger_than_asked_unless_it_is_a_single_pair(
    lengths: list[tuple[int, int]], batch_size: int, seed: int
) -> None:
    sides = ([[number + 10] * length[side] for number, length in enumerate(lengths)] for side in (0, 1))
    batches = TokenBatches(TokenPairs(*map(sentences, sides)), batch_size, seed)
    for number in (0, 1):
        shown = epoch(batches, number)
        assert sum(map(len, shown)) == len(lengths)
        for batch in shown:
            larger = max(batch.source.numel(), batch.target[:, 1:].numel())
            assert larger <= batch_size or len(batch) == 1


@given(st.lists(st.integers(1, 50), max_size=80).map(sorted), st.integers(1, 200))
def test_slices_are_as_large_as_they_may_be(lengths: list[int], batch_size: int) -> None:
    parts = [lengths[part] for part in slices(torch.tensor(lengths), batch_size)]
    assert list(itertools.chain.from_iterable(parts)) == lengths
    for part, following in itertools.pairwise(parts):
        assert len(part) == 1 or len(part) * part[-1] <= batch_size
        assert (len(part) + 1) * following[0] > batch_size


def test_little_of_a_batch_is_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 40, (2000,), generator=generator)
    others = (lengths + torch.randint(-2, 3, (2000,), generator=generator)).clamp(min=1)
    pairs = TokenPairs(*(sentences([[9] * length for length in side.tolist()]) for side in (lengths, others)))
    shown = epoch(TokenBatches(pairs, 1000, seed=0), 0)
    for side in ("source", "target"):
        tensors = [getattr(batch, side) for batch in shown]
        assert sum(int((tensor == PAD).sum()) for tensor in tensors) < 0.15 * sum(map(torch.numel, tensors))


def test_examples_per_step_are_target_tokens_with_end_and_without_padding() -> None:
    pairs = TokenPairs(sentences([[5]] * 4), sentences([[6, 6], [6, 6, 6], [6], [6]]))
    batches = TokenBatches(pairs, 6, seed=0)
    # Two pairs of 2 tokens are followed by one of 3 and one of 4, which do not fit together into 6.
    assert batches.steps_per_epoch == 3
    assert batches.examples_per_step == round((3 + 4 + 2 + 2) / 3)
    assert sum(int((batch.target[:, 1:] != PAD).sum()) for batch in epoch(batches, 0)) == 11


def test_pairs_longer_than_a_batch_are_counted_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    pairs = TokenPairs(sentences([[5] * 9, [5] * 8, [5]]), sentences([[6], [6], [6]]))
    with caplog.at_level(logging.WARNING, "runner"):
        TokenBatches(pairs, 10, seed=0)
        assert caplog.messages == []
        TokenBatches(pairs, 8, seed=0)
    assert caplog.messages == ["schedule.batch_size=8 tokens: 2 longer pairs form a batch each"]


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_bad_batch_size_is_named(size: int) -> None:
    with pytest.raises(ValueError, match=rf"^batch_size={size}: expected [^\n]+$"):
        TokenBatches(numbered(5), size, seed=0)
