"""Create objects from `_target_`s. Only classes from the group's package or the user's --config-dir are allowed."""

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner.config.rules import show
from runner.config.trust import check_trusted
from runner.data.errors import DataError
from runner.errors import ConfigError, ParameterError, UserError, located
from runner.parameters import check_arguments

# Group → the package whose classes it may name. Hydra itself only has a list of forbidden names, which does not include
# pandas.read_pickle; this is a list of allowed ones.
PACKAGES = {
    "data": "runner.data",
    "task": "runner.tasks",
    "model": "runner.models",
    "dropout": "runner.dropout",
    "regularizer": "runner.regularizers",
    "schedule": "runner.training",
}
# Former path of a class → its current path. Stored configurations may name former paths.
MOVED: dict[str, str] = {}
NAMED_CLASS = "runner.models.foreign.module.Module"  # builds any class that the user names
# The same for groups of which a run can have several choices.
PLUGINS = {
    "criterion": "runner.pruning.criteria",
    "granularity": "runner.pruning.granularities",
    "logger": "runner.training.loggers",
}
# Creating these objects is cheap, so errors of their constructors are found early.
_CHEAP_GROUPS = ("task", "dropout", "regularizer", "schedule")
_HERE = Path(__file__).resolve().parent.parent
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
# Keys of a group that are not arguments of its class.
_NOT_ARGUMENTS = ("_target_", "name", "length", "batch_size", "image_sizes", "input_size")


def check_targets(config: Mapping[str, Any], foreign: bool = False) -> None:
    """Raise a ConfigError unless every group names a class of its own package (any class if `foreign`)."""
    for group, package in PACKAGES.items():
        part = config.get(group)
        if not isinstance(part, Mapping):
            raise ConfigError(f"{group} is missing in the configuration")
        for name, value in targets(part, group):
            own = name == f"{group}._target_" and str(value).startswith(f"{package}.")
            if not _DOTTED.fullmatch(str(value)) or not (own or foreign):
                raise ConfigError(f"{name}={value}: expected a class of {package}")
        if "_target_" not in part:
            raise ConfigError(f"{group}._target_ is missing: it names a class of {package}")


def check_stored(config: Mapping[str, Any], config_dir: Path | None) -> None:
    """Check the targets of a stored configuration, whose author may not be trustworthy.

    Classes outside this package are allowed only if they are in the --config-dir or trusted.

    Raises:
        ConfigError: a group names a class that is not allowed.
        ForeignRun: the model's class is not trusted.
    """
    check_targets(config, foreign=config_dir is not None)
    if config["model"]["_target_"] == NAMED_CLASS:
        check_trusted(str(config["model"].get("architecture")))
    for group, package in PACKAGES.items():
        for name, value in targets(config[group], group):
            module = str(value).partition(".")[0]
            files = [config_dir / f"{module}.py", config_dir / module / "__init__.py"] if config_dir else []
            if not str(value).startswith(f"{package}.") and not any(file.is_file() for file in files):
                raise ConfigError(f"{name}={value}: expected a class of {package}, or of a file in {config_dir}")


def targets(part: Any, name: str) -> list[tuple[str, Any]]:
    """Return all `_target_`s at any depth of a section of the configuration, as pairs (dotted option, value)."""
    if isinstance(part, Mapping):
        found = [(f"{name}.{key}", value) for key, value in part.items() if key == "_target_"]
        return found + [pair for key, value in part.items() for pair in targets(value, f"{name}.{key}")]
    if isinstance(part, list):
        return [pair for value in part for pair in targets(value, name)]
    return []


def target(config: Mapping[str, Any], group: str) -> type:
    """Return the class named by the group's `_target_`. The configuration must have passed `check_targets`.

    Raises:
        ConfigError: there is no such class, or its module cannot be imported.
    """
    return find_class(f"{group}._target_", canonical(config[group]["_target_"]), PACKAGES[group])


def canonical(path: str) -> str:
    """Return the current path of a class, which may have been moved."""
    return MOVED.get(path, path)


def check_class(option: str, path: Any, package: str, foreign: bool) -> None:
    """Raise a ConfigError unless a path names a class of the package (any class if `foreign`)."""
    own = str(path).startswith(f"{package}.")
    if not _DOTTED.fullmatch(str(path)) or not (own or foreign):
        raise ConfigError(f"{option}={path}: expected a class of {package}")


def find_class(option: str, path: str, package: str) -> type:
    """Import and return the class with a dotted path, which the caller must have checked.

    Raises:
        ConfigError: there is no such class, or its module cannot be imported.
    """
    module_name, _, class_name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # any error in a user's own file
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{option}={path}: {error}") from None
        folder = _HERE if path.startswith("runner.") else None
        raise ConfigError(f"{option}={path}: {located(error, folder)}") from error
    try:
        found = getattr(module, class_name)
    except AttributeError as error:
        raise ConfigError(f"{option}={path}: {error}") from None
    # A name that the module only imports, such as runner.data.mnist.Path, is not the group's own class.
    if not inspect.isclass(found) or (path.startswith("runner.") and not found.__module__.startswith(package)):
        raise ConfigError(f"{option}={path}: expected a class of {package}")
    return found


def arguments(config: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Return the group's keys that are arguments of its class."""
    return {key: value for key, value in config[group].items() if key not in _NOT_ARGUMENTS}


def build(config: Mapping[str, Any], group: str, **more: Any) -> Any:
    """Create an instance of the group's class, with the group's other keys and `more` as arguments.

    Raises:
        ConfigError: the class rejects an argument.
    """
    given = {**arguments(config, group), **more}
    return instantiate(group, config[group].get("name"), target(config, group), given)


def build_model(config: Mapping[str, Any], **about: Any) -> Any:
    """Create the model: an instance of the group's class, or the network made by a builder in `runner.models.foreign`.

    Args:
        about: the arguments that depend on the data; see `Data.model_arguments`.

    Raises:
        ConfigError: the class or the library rejects an argument.
    """
    made = build(config, "model", **about_inputs(config, about))
    with options_of("model"):
        return made.build() if is_builder(type(made)) else made


def about_inputs(config: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data's arguments for a model, including `input_shape` only if the model's class accepts it.

    Raises:
        ConfigError: the class requires images, but the inputs are not images.
    """
    takes_shape = "input_shape" in inspect.signature(target(config, "model")).parameters
    if "input_shape" in about and "channels" not in about and not takes_shape:
        model, data = (config[group].get("name") for group in ("model", "data"))
        shape = tuple(about["input_shape"])
        raise ConfigError(f"model={model} reads images (C, S, S), but an example of data={data} is {shape}")
    return {name: value for name, value in about.items() if name != "input_shape" or takes_shape}


def is_builder(cls: type) -> bool:
    """Return whether a class is in `runner.models.foreign`, i.e. builds networks instead of being one."""
    return cls.__module__.startswith("runner.models.foreign.")


def check_values(config: Mapping[str, Any]) -> None:
    """Check every group's options against its constructor's rules, before data is loaded or a network is built.

    Raises:
        ConfigError: a value is invalid. The message names the option, the value and what is allowed.
    """
    for group in PACKAGES:
        with options_of(group):
            check_arguments(target(config, group).__init__, arguments(config, group))  # type: ignore[misc]
    for group in _CHEAP_GROUPS:
        build(config, group)


def instantiate(option: str, name: Any, cls: type, given: Mapping[str, Any]) -> Any:
    """Create an instance of a class with the given arguments. Errors name the option and the choice.

    Raises:
        ConfigError: the class rejects an argument.
    """
    try:
        inspect.signature(cls).bind(**given)
    except TypeError as error:
        raise ConfigError(f"{option}={name}: {cls.__name__} {error}") from None
    with options_of(option):
        try:
            return cls(**given)
        except (UserError, ParameterError):
            raise
        except Exception as error:
            if cls.__module__.startswith("runner."):
                raise
            raise ConfigError(f"{option}={name}: {located(error)}") from error  # in a user's own file


@contextmanager
def options_of(group: str) -> Iterator[None]:
    """Make errors name parameters as on the command line: `dropout.alpha` instead of `alpha`.

    Raises:
        ConfigError: in place of any ValueError.
    """
    try:
        yield
    except ParameterError as error:
        raise ConfigError(f"{group}.{error.name}={show(error.value)}: expected {error.allowed}") from None
    except DataError as error:
        raise DataError(error.text(group)) from error
    except ValueError as error:
        raise ConfigError(str(error)) from None
