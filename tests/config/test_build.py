"""Only classes of a group's own package, or from a user's own folder, are built."""

import pickle
import sys

import pytest

from runner.config.build import PACKAGES, arguments, build, check_stored, check_targets, target
from runner.dropout.targeted import Targeted
from runner.errors import ConfigError, ParameterError
from runner.models.vgg import VGG
from runner.training.schedules import Adam


@pytest.fixture
def config(compose):
    return compose("dropout=targeted")


def with_target(config, group, path):
    return {**config, group: {**config[group], "_target_": path}}


def test_the_package_itself_passes(config):
    check_targets(config)
    check_stored(config, None)


def test_builds_with_the_files_arguments_and_more(config):
    variant = build(config, "dropout")
    assert type(variant) is Targeted
    assert (variant.alpha, variant.gamma, variant.ramp) == (0.66, 0.75, None)
    assert build(config, "dropout", ramp=[0.1, 0.2, 0.3]).ramp == (0.1, 0.2, 0.3)


def test_what_is_for_other_readers_is_no_argument(config):
    assert arguments(config, "dropout") == {"alpha": 0.66, "gamma": 0.75, "scope": "filter"}
    assert not {"name", "_target_", "length", "batch_size"} & set(arguments(config, "schedule"))
    assert "length" not in arguments(config, "data")
    assert "input_size" not in arguments(config, "model")


@pytest.mark.parametrize("group", PACKAGES)
@pytest.mark.parametrize("path", ["os.system", "pandas.read_pickle", "builtins.eval", "runner.cli.main", "eval", ""])
def test_other_places_are_refused(config, group, path):
    with pytest.raises(ConfigError, match=rf"{group}\._target_={path}: expected a class of {PACKAGES[group]}"):
        check_targets(with_target(config, group, path))


@pytest.mark.parametrize("path", ["runner.models", "runner.models.", "runner.models.resnet.PreActResNet()", "a b.c"])
def test_odd_names_are_refused(config, path):
    with pytest.raises(ConfigError, match=r"expected a class of runner\.models"):
        check_targets(with_target(config, "model", path))
        target(with_target(config, "model", path), "model")


def test_a_group_or_its_target_missing(config):
    with pytest.raises(ConfigError, match="model is missing"):
        check_targets({key: part for key, part in config.items() if key != "model"})
    with pytest.raises(ConfigError, match=r"model\._target_ is missing"):
        check_targets({**config, "model": {"width": 1}})


@pytest.mark.parametrize(
    "path",
    [
        "runner.models.resnet.nn",  # a module
        "runner.models.resnet.Nothing",
        "runner.models.nothing.Thing",
        "runner.models.layers.prunable_layers",  # a function
        "runner.models.resnet.Tensor",  # only imported there
    ],
)
def test_only_classes_that_the_package_defines(config, path):
    changed = with_target(config, "model", path)
    check_targets(changed)
    with pytest.raises(ConfigError, match=rf"model\._target_={path}: "):
        target(changed, "model")


def test_a_class_that_refuses_its_arguments_names_the_option(config):
    with pytest.raises(ConfigError, match="dropout=targeted: Targeted got an unexpected keyword argument 'foo'"):
        build(config, "dropout", foo=1)
    with pytest.raises(ConfigError, match=r"dropout\.alpha=2"):
        build({**config, "dropout": {**config["dropout"], "alpha": 2}}, "dropout")


def test_own_classes(config, tmp_path, monkeypatch):
    (tmp_path / "own_classes.py").write_text(
        "class Mine:\n    def __init__(self, alpha, gamma, scope):\n        pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    changed = with_target(config, "dropout", "own_classes.Mine")
    with pytest.raises(ConfigError, match=r"expected a class of runner\.dropout"):
        check_targets(changed)
    check_targets(changed, foreign=True)
    check_stored(changed, tmp_path)
    assert type(build(changed, "dropout")).__name__ == "Mine"
    monkeypatch.delitem(sys.modules, "own_classes")


def test_a_stored_configuration_names_classes_of_ones_own_folder_and_of_no_other(config, tmp_path):
    """Even if foreign classes are allowed: subprocess.Popen is a foreign class."""
    for path in ("subprocess.Popen", "own_classes.Mine", "runner.cli.Arguments"):
        with pytest.raises(ConfigError, match=f"data._target_={path}: expected a class of runner.data"):
            check_stored(with_target(config, "data", path), tmp_path)
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").touch()
    check_stored(with_target(config, "data", "own_package.module.Mine"), tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Targeted(alpha=2), "alpha=2: expected a number from 0 to 1"),
        (lambda: Targeted(alpha="much"), "alpha='much': expected a number from 0 to 1"),
        (lambda: Targeted(ramp=[0.5]), "ramp=[0.5]: expected three fractions of training, the first two rising"),
        (lambda: VGG(stages=[1]), "stages=[1]: expected one number for each of the 5 widths"),
        (lambda: Adam(decay="linear"), "decay='linear': expected one of cosine, inverse_square_root, none"),
    ],
)
def test_in_ones_own_loop_an_error_names_the_parameter(make, message):
    with pytest.raises(ParameterError) as raised:
        make()
    assert str(raised.value) == message
    assert isinstance(raised.value, ValueError)
    assert str(pickle.loads(pickle.dumps(raised.value))) == message  # it can be sent between processes


def test_on_the_command_line_the_same_error_names_the_option(config, tmp_path):
    for group, options, message in (
        ("dropout", {"ramp": [0.5]}, r"^dropout\.ramp=\[0\.5\]: expected three fractions of training"),
        (
            "model",
            {"width": 1, "channels": 1, "_target_": "runner.models.vgg.VGG", "stages": [1]},
            r"^model\.stages=\[1\]: expected one number",
        ),
        (
            "data",
            {"_target_": "runner.data.image_folder.ImageFolder", "root": "nowhere"},
            r"^data\.root=nowhere: no such folder$",
        ),
        (
            "data",
            {"_target_": "runner.data.mnist.MNIST", "root": str(tmp_path), "download": False},
            r"^data\.root=\S+: no MNIST here \(.*\); data\.download=true fetches it$",
        ),
    ):
        given = {**config[group], **options} if group == "dropout" else {"name": "mine", **options}
        with pytest.raises(ConfigError, match=message):
            build({**config, group: given}, group)
