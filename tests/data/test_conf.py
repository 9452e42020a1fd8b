"""Checks of every file in conf/data, including future ones."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runner.data.images import ImageData

FILES = sorted((Path(__file__).parents[2] / "conf" / "data").glob("*.yaml"))
KEYS_FOR_OTHERS = ("_target_", "name", "length")


def test_the_promised_ones_are_there() -> None:
    promised = {
        "digits",
        "fashion_mnist",
        "mnist",
        "cifar10",
        "cifar100",
        "image_folder",
        "numbers",
        "multi30k",
        "wmt14",
        "parallel",
        "arrays",
    }
    assert promised <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_target_takes_exactly_the_arguments_in_the_file(path: Path) -> None:
    config = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(config, dict)
    module, _, name = config["_target_"].rpartition(".")
    target = getattr(importlib.import_module(module), name)
    arguments = [str(key) for key in config if key not in KEYS_FOR_OTHERS]
    parameters = inspect.signature(target).parameters
    assert sorted(arguments) == sorted(parameters)
    if issubclass(target, ImageData):
        defaults = {key: parameter.default for key, parameter in parameters.items()}
        assert {key: config[key] for key in arguments if config[key] not in ("???", defaults[key])} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_one_line_says_what_it_is_and_a_length_is_given(path: Path) -> None:
    assert re.fullmatch(r"# \S.{10,110}", path.read_text().splitlines()[0])
    assert re.fullmatch(r"\d+(ep|it)", OmegaConf.load(path).length)
