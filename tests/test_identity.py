"""Which options make two runs different ones, and what their folders are called."""

import re
from copy import deepcopy
from pathlib import Path

import pytest

from runner.config.compose import Composer
from runner.runs import default_folder, identity


@pytest.fixture(scope="module")
def composed() -> dict:
    words = ["dropout=targeted", "data=cifar10"]
    return {**Composer("train").single(words), "precision": "float32"}


@pytest.fixture
def config(composed) -> dict:
    return deepcopy(composed)


def changed(config: dict, name: str, value: object) -> dict:
    """A copy with one option changed, which must be another value than before."""
    copy = deepcopy(config)
    *path, last = name.split(".")
    part = copy
    for key in path:
        part = part[key]
    assert part[last] != value
    part[last] = value
    return copy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 1),
        ("prune", {"sparsities": [0.5]}),
        ("force", True),
        ("device", "cuda"),
        ("folder", "x"),
        ("outputs", "x"),
        ("checkpoint_minutes", 9),
        ("data.root", "/elsewhere"),
        ("data.download", False),
        ("data.length", "3ep"),
    ],
)
def test_what_does_not_change_the_weights_does_not_change_the_hash(name, value, config):
    assert identity(changed(config, name, value)) == identity(config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropout.alpha", 0.5),
        ("dropout.gamma", 0.5),
        ("dropout.name", "other"),
        ("dropout._target_", "x.Y"),
        ("schedule.length", "9ep"),
        ("schedule.learning_rate", 0.3),
        ("schedule.batch_size", 64),
        ("model.width", 0.5),
        ("data.crop", 0),
        ("data.validation", 0.2),
        ("precision", "bf16"),
        ("compile", True),
    ],
)
def test_what_changes_the_weights_changes_the_hash(name, value, config):
    assert identity(changed(config, name, value)) != identity(config)


def test_the_hash_is_of_values_not_of_their_order_or_how_they_were_typed():
    def hash_of(*words):
        return identity({**Composer("train").single(words), "precision": "float32"})

    typed = hash_of("dropout=targeted", "schedule.length=50ep")
    assert typed == hash_of("schedule.length=${data.length}", "dropout=targeted", "dropout.alpha=0.66", "seed=3")
    assert typed != hash_of("dropout=targeted", "schedule.length=51ep")


def test_content_of_ones_own_data_counts(config):
    assert len({identity(config), identity(config, "abc"), identity(config, "abd")}) == 3


def test_the_source_of_ones_own_classes_counts(config):
    own = [{"dropout._target_": "abc"}, {"dropout._target_": "abd"}, {"model._target_": "abc"}]
    assert len({identity(config), *(identity(config, sources=sources) for sources in own)}) == 4
    assert identity(config, sources={}) == identity(config)


def test_a_hash_is_64_hex_digits(config):
    assert re.fullmatch("[0-9a-f]{64}", identity(config))


def test_a_folders_name_is_readable(config):
    folder = default_folder({**config, "seed": 3, "outputs": "out"}, "0123456789abcdef")
    assert folder == Path("out/train/cifar10-resnet32-targeted-01234567/seed3")
