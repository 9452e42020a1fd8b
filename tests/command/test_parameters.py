"""Constructors reject invalid values, and the command line does so before it reads data or builds a network."""

import inspect
import math
import subprocess
import sys

import pytest
import yaml

from runner.config.build import PACKAGES, check_values, find_class
from runner.config.compose import CONF, Composer
from runner.data import mnist
from runner.errors import ConfigError, ParameterError
from runner.models.mlp import MLP
from runner.parameters import Count, check_arguments, checked, rules_of
from runner.running import settle
from runner.training.schedules import Adam

# Arguments that data sets provide to models, and values that are checked where they are used: files, places.
ELSEWHERE = {
    "model": (
        *("channels", "image_size", "classes", "vocabulary", "context", "input_shape"),
        *("architecture", "weights", "arguments"),
    ),
    "data": ("root",),
    "dropout": ("places", "granularity"),
}
# Names of files, which may be any word, and of their contents.
FILES = {
    "Text": ("train", "validation", "test"),
    "ParallelText": ("train", "validation", "test"),
    "SentenceEmbeddings": ("train", "validation", "test", "encoder"),
    "Arrays": ("train", "validation", "test", "inputs", "labels"),
}


def shipped():
    """Return every class that a file of conf/ names, with its group."""
    for group, package in PACKAGES.items():
        for path in sorted((CONF / group).glob("*.yaml")):
            content = yaml.safe_load(path.read_text())
            part = content.get(group, content)
            if "_target_" in part:
                yield group, find_class(str(path), part["_target_"], package)


CLASSES = sorted(set(shipped()), key=str)


@pytest.mark.parametrize(("group", "cls"), CLASSES, ids=lambda one: one if isinstance(one, str) else one.__name__)
def test_every_parameter_refuses_what_no_parameter_can_be(group, cls):
    """An option that nobody checks would cause an error hours later, or never."""
    known = rules_of(cls.__init__)
    required = {
        "Transformer": {"vocabulary": 300},
        "GPT": {"vocabulary": 300, "context": 8},
        "TargetedGroups": {"granularity": "weight"},
    }.get(cls.__name__, {})
    for name, parameter in inspect.signature(cls).parameters.items():
        files = name in FILES.get(cls.__name__, ())
        if isinstance(parameter.default, bool) or name in ELSEWHERE.get(group, ()) or files:
            continue
        for value in (-1e9, math.nan, math.inf, "abc", object()):
            with pytest.raises(ParameterError, match=f"^{name}="):
                check_arguments(cls.__init__, {name: value}) if name in known else cls(**required, **{name: value})


def test_rules_stand_in_the_signature_and_keep_it():
    class Thing:
        @checked
        def __init__(self, other: int, count: Count = 2) -> None:
            self.count = count

    assert str(inspect.signature(Thing)).startswith("(other: int, count: ")
    assert Thing(-1).count == 2
    assert Thing(-1, 3).count == 3
    for make in (lambda: Thing(1, 0), lambda: Thing(1, count=0), lambda: Thing(1, count=True)):
        with pytest.raises(ParameterError, match=r"^count=\w+: expected a whole number of at least 1$"):
            make()


def test_values_that_fit_pass():
    assert isinstance(MLP(widths=(4,), width=0.5), MLP)
    assert Adam(clip_norm=None, betas=(0.5, 0.9)).betas == (0.5, 0.9)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=mnist", "data.crop=-1"], "data.crop=-1: expected a whole number of at least 0"),
        (["data=mnist", "model.width=0"], "model.width=0: expected a number above 0"),
        (["data=mnist", "dropout=targeted", "dropout.alpha=2"], "dropout.alpha=2: expected a number from 0 to 1"),
        (["data=mnist", "schedule.momentum=1"], "schedule.momentum=1: expected a number from 0 to below 1"),
        (["data=mnist", "task.label_smoothing=1"], "task.label_smoothing=1: expected a number from 0 to below 1"),
    ],
    ids=lambda one: one[-1] if isinstance(one, list) else "",
)
def test_values_are_refused_before_data_is_read(words, said, monkeypatch):
    monkeypatch.setattr(mnist, "load", None)
    with pytest.raises(ConfigError) as raised:
        settle(Composer("train").single(words))
    assert str(raised.value) == said


def test_all_jobs_of_a_sweep_are_checked_before_the_first_ones_data_is_read(call, tmp_path):
    words = ("data=mnist", "data.root=nowhere", "data.download=false", "dropout=targeted", "dropout.alpha=0.5,2")
    result = call("train", "-m", *words)
    assert (result.code, result.err) == (2, "run: dropout.alpha=2: expected a number from 0 to 1\n")
    assert list(tmp_path.iterdir()) == []


def test_a_users_own_constructor_is_asked_early_too():
    """Dropouts, tasks, regularizers and schedules are built early, as their constructors may have their own checks."""
    config = Composer("train").single(["dropout=rigl", "dropout.distribution=none"])
    with pytest.raises(ConfigError, match=r"dropout\.distribution=none: expected one of erk, uniform"):
        check_values(config)


def test_unknown_options_and_choices_are_answered_without_torch():
    script = """
import sys
from runner.config.compose import Composer
from runner.errors import ConfigError
for word in ("dropout=targted", "dropout.alpah=1", "seed=-1", "prune.criterion=magnitde"):
    try:
        Composer("train").single(["dropout=targeted", word][word.startswith("dropout="):])
    except ConfigError:
        continue
    sys.exit(word)
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
