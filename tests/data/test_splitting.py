import numpy as np
import pytest

from runner.data.splitting import stratified_count, stratified_fraction


def test_classes_give_their_share_and_the_count_is_exact() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 21])
    kept, taken = stratified_count(labels, 10)
    # The shares 4.95, 2.97 and 2.08 are 5, 3 and 2 by largest remainder.
    assert np.bincount(labels[taken]).tolist() == [5, 3, 2]
    assert sorted([*kept, *taken]) == list(range(101))
    assert np.all(np.diff(kept) > 0) and np.all(np.diff(taken) > 0)


def test_the_same_every_time_and_untouched_by_global_seeds() -> None:
    labels = np.arange(200) % 7
    np.random.seed(1)
    before = np.random.random()
    first = stratified_fraction(labels, 0.3, "validation")
    np.random.seed(1)
    second = stratified_fraction(labels, 0.3, "validation")
    assert np.array_equal(first[1], second[1])
    assert np.random.random() == before


def test_not_simply_the_first_images_of_a_class() -> None:
    _, taken = stratified_count(np.arange(100) % 2, 20)
    assert taken.max() > 60


def test_zero_takes_none_and_any_other_fraction_at_least_one() -> None:
    labels = np.arange(6) % 2
    kept, taken = stratified_fraction(labels, 0, "validation")
    assert len(kept) == 6 and len(taken) == 0
    assert len(stratified_fraction(labels, 0.01, "validation")[1]) == 1


def test_every_class_keeps_an_image() -> None:
    labels = np.array([0] * 10 + [1, 2])
    kept, taken = stratified_count(labels, 9)
    assert set(labels[kept]) == {0, 1, 2}
    assert len(taken) == 9
    assert len(stratified_count(np.array([0, 1, 2]), 2)[1]) == 0


@pytest.mark.parametrize("value", [1, 1.5, -0.1, float("nan"), "abc", None, True])
def test_no_fraction(value: object) -> None:
    with pytest.raises(ValueError, match=rf"^validation={value!r}: expected a fraction from 0 to below 1$"):
        stratified_fraction(np.arange(10) % 2, value, "validation")  # type: ignore[arg-type]


def test_nothing_would_be_left() -> None:
    with pytest.raises(ValueError, match=r"^validation=0\.95: expected a smaller fraction: it takes all 4 images$"):
        stratified_fraction(np.arange(4) % 2, 0.95, "validation")
