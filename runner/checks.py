"""Checks that the choices in a configuration are compatible. They run before anything is written."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from runner.config import choices
from runner.config.build import target
from runner.data.progressive import shrink
from runner.errors import ConfigError, located
from runner.models.layers import feature_places
from runner.pruning.sweep import scope_for

# The kinds of examples, as they are named in error messages.
_KINDS = {"images": "images", "pairs": "pairs of sentences", "sentences": "sentences", "text": "text"}


def check_kinds(config: Mapping[str, Any]) -> None:
    """Raise ConfigError if data, task and model do not work on the same kind of example."""
    kinds = {group: kinds_of(target(config, group)) for group in ("model", "data", "task")}
    for group, other in (("data", "model"), ("task", "model"), ("task", "data")):
        if not set(kinds[group]) & set(kinds[other]):
            about, others = (" or ".join(_KINDS.get(one, one) for one in kinds[part]) for part in (group, other))
            raise ConfigError(
                f"{group}={config[group]['name']} works with {about}, but {other}={config[other]['name']} with {others}"
            )


def kinds_of(cls: type) -> tuple[str, ...]:
    """Return the kinds of examples that a data, task or model class works on; images if it declares none."""
    return tuple(getattr(cls, "kinds", None) or (getattr(cls, "kind", "images"),))


def check_output(config: Mapping[str, Any], data: Any, task: Any, model: nn.Module, device: torch.device) -> None:
    """Raise ConfigError if the model fails on an example, or its output does not have the shape that the task expects.

    The example consists of zeros. Tasks without `output_shape` are not checked.
    """
    if not hasattr(task, "output_shape"):
        return
    about = data.model_arguments()
    name, shape = config["model"]["name"], input_shape(about)
    example = torch.zeros(1, *shape, device=device)
    output = _output(model, example, f"model={name} fails on {_shown(about)} of data={config['data']['name']}")
    expected = tuple(task.output_shape(**_known_to(task.output_shape, about)))
    found = tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else type(output).__name__
    if found != expected:
        wanted = f"task={config['task']['name']} expects {task.output}, of shape {expected}"
        raise ConfigError(f"{wanted}, but model={name} returns {found}")


def check_image_sizes(config: Mapping[str, Any], data: Any, model: nn.Module, device: torch.device) -> None:
    """Raise ConfigError if the network cannot be trained on images of all `schedule.image_sizes`."""
    sizes = config["schedule"].get("image_sizes")
    if not sizes:
        return
    about, name = data.model_arguments(), config["model"]["name"]
    option = f"schedule.image_sizes={list(sizes)}"
    if "image_size" not in about:
        raise ConfigError(f"{option}: data={config['data']['name']} has no images; expected null")
    images = torch.zeros(2, *input_shape(about), device=device)
    smallest = getattr(type(model), "minimum_size", 1)
    for fraction in sizes:
        small = shrink(images, fraction)
        size = small.shape[-1]
        if size < smallest:
            raise ConfigError(f"{option}: images of {size} px are too small for model={name}; expected {smallest} px")
        _output(model, small, f"{option}: model={name} fails on images of {size} px")


def _output(model: nn.Module, inputs: torch.Tensor, failure: str) -> Any:
    """Return the output of a model in evaluation mode, or raise a ConfigError that begins with `failure`."""
    model.eval()
    try:
        with torch.no_grad():
            return model(inputs)
    except Exception as error:  # whatever a user's own model raises
        raise ConfigError(f"{failure}: {located(error)}") from error
    finally:
        model.train()


def input_shape(about: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the input shape of one example, given the data set's arguments for models."""
    if "input_shape" in about:
        return tuple(about["input_shape"])
    return about["channels"], about["image_size"], about["image_size"]


def _shown(about: Mapping[str, Any]) -> str:
    size = about.get("image_size")
    return f"inputs {input_shape(about)}" if size is None else f"an image of {size}x{size} px"


def _known_to(function: Callable[..., Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """Select the entries of `about` that the function accepts as arguments."""
    parameters = inspect.signature(function).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {name: value for name, value in about.items() if takes_all or name in parameters}


def check_splits(config: Mapping[str, Any], splits: Sequence[str]) -> None:
    """Raise ConfigError if every split requested for the sweep is empty."""
    asked = config.get("prune", {}).get("splits", splits)  # run bench prunes in its own way
    if not set(asked) & set(splits):
        raise ConfigError(f"prune.splits=[{','.join(asked)}] holds no examples; expected {', '.join(splits)}")


def check_scope(config: Mapping[str, Any]) -> None:
    """Raise ConfigError if a granularity does not support the scope of the sweep."""
    for part in _granularities(config):
        scope_for(part, config["prune"]["scope"], "layer")


def _granularities(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the granularities that the sweep names; none for `auto`."""
    asked = config.get("prune", {}).get("granularity")
    return asked if isinstance(asked, list) else []


def check_granularities(config: Mapping[str, Any], model: nn.Module) -> None:
    """Raise ConfigError if the model has no members of a granularity to prune, e.g. no attention heads."""
    for part in _granularities(config):
        if "_target_" in part and part["name"] != "feature":  # see check_places
            try:
                choices.make("granularity", part).members(model)
            except ValueError as error:
                raise ConfigError(f"prune.granularity={part['name']}: {error}") from None


def check_places(config: Mapping[str, Any], model: nn.Module) -> None:
    """Raise ConfigError if features are to be pruned in a model that declares no feature places."""
    asked = config.get("prune", {}).get("granularity")
    names = [part["name"] for part in asked] if isinstance(asked, list) else [asked]
    if "feature" in names and not feature_places(model):
        name = config["model"]["name"]
        raise ConfigError(f"prune.granularity=feature: model={name} declares no places; expected auto, weight, unit")
