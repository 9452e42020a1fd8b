"""Which options make two runs different, the names of their folders, and how older folders are found.

`python tests/config/test_identity.py` prints the defaults that a release adds to runner/config/released.json.
"""

import json
import re
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from runner.config import identity as module
from runner.config.build import PACKAGES, find_class
from runner.config.compose import Composer
from runner.config.identity import defaults_now, identity, identity_of_format_1, released_defaults, same_sweep
from runner.config.paths import CONF
from runner.dropout.targeted import Targeted
from runner.runs import default_folder


def defaults() -> dict[str, dict[str, object]]:
    """Return class → parameter → current default, for all classes that a file in conf/ names."""
    found = {}
    for group, package in PACKAGES.items():
        for path in sorted((CONF / group).glob("*.yaml")):
            content = yaml.safe_load(path.read_text())
            target = content.get("_target_") or content.get(group, {}).get("_target_")
            if target:
                found[target] = defaults_now(find_class(group, target, package))
    return found


@pytest.fixture(scope="module")
def composed() -> dict:
    words = ["dropout=targeted", "data=cifar10"]
    return {**Composer("train").single(words), "precision": "float32"}


@pytest.fixture
def config(composed) -> dict:
    return deepcopy(composed)


def changed(config: dict, name: str, value: object) -> dict:
    """Return a copy with one option changed, whose value must differ from the old one."""
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
        ("note", "words"),
        ("data.root", "/elsewhere"),
        ("data.download", False),
        ("data.length", "3ep"),
        ("dropout.name", "the same class under another name"),
        ("dropout.alpha", 0.66),
        ("model.width", 1),
    ],
)
def test_what_does_not_change_the_weights_does_not_change_the_hash(name, value, config):
    if name in ("dropout.alpha", "model.width"):  # the default, written as a whole number or left out
        del config[name.partition(".")[0]][name.partition(".")[2]]
        without = identity(config)
        config[name.partition(".")[0]][name.partition(".")[2]] = value
        assert identity(config) == without
    else:
        assert identity(changed(config, name, value)) == identity(config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropout.alpha", 0.5),
        ("dropout.gamma", 0.5),
        ("dropout._target_", "runner.dropout.delayed.Delayed"),
        ("schedule.length", "9ep"),
        ("schedule.learning_rate", 0.3),
        ("schedule.batch_size", 64),
        ("schedule.image_sizes", [0.5, 1]),
        ("model.width", 0.5),
        ("data.crop", 0),
        ("data.validation", 0.2),
        ("precision", "bf16"),
        ("compile", True),
        ("limit", 10),
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


def test_content_of_ones_own_files_counts(config):
    hashes = [identity(config, {"data": one}) for one in "ab"] + [identity(config, {"init": one}) for one in "ab"]
    hashes += [identity(config, {"dropout._target_": "a"}), identity(config)]
    assert len(set(hashes)) == 6
    assert identity(config, {}) == identity(config)


class Extended(Targeted):
    """Targeted with an option that was added later."""

    def __init__(
        self, alpha: float = 0.66, gamma: float = 0.75, ramp: object = None, scope: str = "filter", late: str = "no"
    ) -> None:
        super().__init__(alpha, gamma, None)


def test_a_new_option_with_a_default_renames_no_run(config, monkeypatch):
    before, old = identity(config), identity_of_format_1(config)
    monkeypatch.setattr(module, "target", lambda config, group: Extended if group == "dropout" else dict)
    with_it = deepcopy(config)
    with_it["dropout"]["late"] = "no"
    # `dict` has no defaults of its own, so only the description of the dropout is compared.
    assert module._differing(with_it, "dropout", False) == module._differing(config, "dropout", False)
    assert "late" not in (module._of_format_1(with_it, "dropout") or {"late": 1})
    with_it["dropout"]["late"] = "yes"
    assert module._differing(with_it, "dropout", False) != module._differing(config, "dropout", False)
    assert module._of_format_1(with_it, "dropout") is None
    monkeypatch.undo()
    assert (identity(config), identity_of_format_1(config)) == (before, old)


def test_a_default_that_changes_makes_another_run_and_keeps_the_old_name(config, monkeypatch):
    class Changed(Targeted):
        def __init__(self, alpha: float = 0.7, gamma: float = 0.75, ramp: object = None, scope: str = "filter") -> None:
            super().__init__(alpha, gamma, None)

    def said(alpha):
        part = {**config["dropout"], "alpha": alpha}
        return module._differing({**config, "dropout": part}, "dropout", False)

    before = said(0.66)
    monkeypatch.setattr(module, "target", lambda config, group: Changed)
    assert said(0.66) == before
    assert said(0.7) != before
    without = {key: value for key, value in config["dropout"].items() if key != "alpha"}
    assert module._differing({**config, "dropout": without}, "dropout", False) == said(0.7)


def test_released_defaults_are_those_of_the_classes():
    """With another default, the same options would mean another experiment; `released.json` records the old default."""
    now, released = defaults(), released_defaults()
    differing = {
        path: {name: value for name, value in options.items() if name in now[path] and now[path][name] != value}
        for path, options in released.items()
        if path in now and path != "prune"
    }
    assert {path: options for path, options in differing.items() if options} == {}


@pytest.mark.parametrize(
    ("words", "digits"),
    [
        (["data=cifar10", "model=resnet32_he", "schedule.length=30ep"], "ebbea1b7"),
        (["data=cifar10", "model=resnet32_he", "schedule.length=30ep", "dropout=ramping"], "e4c60c7a"),
    ],
)
def test_hashes_of_format_1_are_what_they_were(words, digits):
    config = {**Composer("train").single([*words, "data.root=data"]), "precision": "float32"}
    assert (identity_of_format_1(config) or "").startswith(digits)


def test_a_sweep_is_known_again_by_what_differs_from_the_defaults():
    prune = Composer("train").single([])["prune"]
    old = json.loads(json.dumps(prune)) | {"scores": "own"}
    del old["criterion"]
    assert same_sweep(old, prune)
    assert not same_sweep({**old, "an option with another value": 1}, prune)
    assert not same_sweep({**old, "scores": "random"}, prune)
    assert not same_sweep({**old, "sparsities": [0.5]}, prune)
    assert not same_sweep(None, prune)


def test_a_hash_is_64_hex_digits(config):
    assert re.fullmatch("[0-9a-f]{64}", identity(config))


def test_a_folders_name_is_readable(config):
    folder = default_folder({**config, "seed": 3, "outputs": "out"}, "0123456789abcdef")
    assert folder == Path("out/train/cifar10-resnet32-targeted-01234567/seed3")


if __name__ == "__main__":
    print(json.dumps(defaults(), indent=1))
