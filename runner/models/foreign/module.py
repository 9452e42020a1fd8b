"""Networks of any importable class."""

import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runner.config.trust import check_trusted
from runner.errors import ConfigError, located
from runner.models.foreign.base import Architecture, Arguments, Foreign, Weights, unknown
from runner.parameters import checked


class Module(Foreign):
    """A network built by any importable class or function; the current folder is searched first.

    The class or function receives `classes` and `input_shape` of the data, and `channels` and `image_size` of images,
    if it has parameters of these names.

    Args:
        architecture: `my_file:Net` or `package.module:Class`.
        weights, arguments: see `Foreign`.
        input_shape: shape of the inputs of one example; None means the shape of an image.
    """

    library = "module"
    minimum_size = 1

    @checked
    def __init__(
        self,
        architecture: Architecture,
        weights: Weights = None,
        arguments: Arguments = None,
        channels: int = 3,
        image_size: int = 224,
        classes: int = 1000,
        input_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(architecture, weights, arguments, channels, image_size, classes)
        self.input_shape = (channels, image_size, image_size) if input_shape is None else tuple(input_shape)

    def example(self, network: nn.Module, examples: int = 2) -> tuple[Tensor, ...]:
        return (torch.rand(examples, *self.input_shape),)

    def construct(self) -> nn.Module:
        cls = self._class()
        about = {"classes": self.classes, "input_shape": self.input_shape}
        if len(self.input_shape) == 3:
            about |= {"channels": self.channels, "image_size": self.image_size}
        parameters = inspect.signature(cls).parameters
        given = {name: value for name, value in about.items() if name in parameters} | self.arguments
        try:
            inspect.signature(cls).bind(**given)
        except TypeError as error:
            raise ConfigError(f"model.architecture={self.architecture}: {error}; model.arguments={{…}}") from None
        network = self._made(cls, **given)
        if not isinstance(network, nn.Module):
            raise ConfigError(f"model.architecture={self.architecture}: expected an nn.Module, got {type(network)}")
        return network

    def _class(self) -> Any:
        module_name, colon, class_name = self.architecture.partition(":")
        if not (module_name and colon and class_name.isidentifier()):
            raise ConfigError(f"model.architecture={self.architecture}: expected package.module:Class")
        check_trusted(self.architecture)
        module = _import(module_name, self.architecture)
        found = getattr(module, class_name, None)
        if found is None or not callable(found):
            names = [name for name, value in vars(module).items() if inspect.isclass(value)]
            raise unknown("model.architecture", class_name, module_name, names)
        return found


def _import(name: str, architecture: str) -> Any:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:  # a user's own file may raise anything
        raise ConfigError(f"model.architecture={architecture}: {located(error)}") from error
    finally:
        sys.path.remove(here)
