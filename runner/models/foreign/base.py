"""Base class of builders for networks from other packages."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from runner.errors import ConfigError, UserError, located
from runner.models.weights import load_state, read_state
from runner.parameters import checked
from runner.rules import either, is_mapping, is_path, is_word

_FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
Architecture = Annotated[str, is_word]
Weights = Annotated[str | None, either(None, is_path)]
Arguments = Annotated[Mapping[str, Any] | None, either(None, is_mapping)]


class Foreign(ABC):
    """Builder of a network from a library; `build` returns the network.

    Args:
        architecture: name of the network in the library.
        weights: a file of weights (safetensors, or a state dict), or the name of weights that the library downloads;
            None means random weights. The final layer stays random if it has another number of classes.
        arguments: additional keyword arguments for the library's builder, as plain values.
        channels, image_size, classes: properties of the data, passed to the library's builder if it accepts them.
    """

    kind = "images"
    minimum_size = 32  # px; smaller images are enlarged
    library: ClassVar[str]  # the package, and the extra that installs it

    @checked
    def __init__(
        self,
        architecture: Architecture,
        weights: Weights = None,
        arguments: Arguments = None,
        channels: int = 3,
        image_size: int = 224,
        classes: int = 1000,
    ) -> None:
        self.architecture = str(architecture)
        self.weights = weights
        self.arguments = dict(arguments or {})
        self.channels, self.image_size, self.classes = channels, image_size, classes

    @abstractmethod
    def construct(self) -> nn.Module:
        """Build the network with random weights.

        Raises:
            ConfigError: the library has no such architecture, or rejects an argument.
        """

    def named_weights(self) -> dict[str, Tensor]:
        """Return the tensors of the library's weights with the name `weights`.

        Raises:
            ConfigError: the library has no such weights.
        """
        raise ConfigError(f"model.weights={self.weights}: no such file")

    def build(self) -> nn.Module:
        """Build the network with its weights.

        Raises:
            ConfigError: as in `construct`, or the weights can't be read or belong to another network.
        """
        network = self.construct()
        if self.weights is not None:
            file = self.weights_file(self.weights)
            state = self.named_weights() if file is None else read_state(file, f"model.weights={self.weights}")
            load_state(network, state, f"model.weights={self.weights}", other_head=True)
        return network

    def example(self, network: nn.Module, examples: int = 2) -> tuple[Tensor, ...]:
        """Return random arguments for a forward pass of the network."""
        return (torch.rand(examples, self.channels, self.image_size, self.image_size),)

    @staticmethod
    def weights_file(weights: str) -> Path | None:
        """Return the file given by the option `weights`, or None if it is the name of weights in the library.

        Raises:
            ConfigError: it names a file that doesn't exist.
        """
        path = Path(str(weights)).expanduser()
        if path.is_file():
            return path
        if path.suffix in _FILES or "/" in str(weights):
            raise ConfigError(f"model.weights={weights}: no such file")
        return None

    @classmethod
    def versions(cls) -> dict[str, str]:
        """Return the library's version by its name, or {} if no such package is installed."""
        try:
            return {cls.library: version(cls.library)}
        except PackageNotFoundError:
            return {}

    def _made(self, builder: Any, *args: Any, **arguments: Any) -> Any:
        """Call a library's builder and convert its errors to one line that names the arguments."""
        try:
            return builder(*args, **arguments)
        except UserError:
            raise
        except Exception as error:  # a library may raise anything for a user's arguments
            given = f" with model.arguments={self.arguments}" if self.arguments else ""
            raise ConfigError(
                f"model.architecture={self.architecture}: {self.library} can't build it{given}: {located(error)[:200]}"
            ) from error


def unknown(option: str, value: str, library: str, names: Iterable[str]) -> ConfigError:
    """Return an error that suggests similar names for a name that is unknown to a library."""
    known = list(names)
    near = get_close_matches(value, known, n=3, cutoff=0.5)
    if not near:
        near = [name for name in known if value and (value in name or name in value)][:3]
    hint = f"; did you mean {', '.join(near)}?" if near else f"; it has {', '.join(known[:6])}, …"
    return ConfigError(f"{option}={value}: unknown to {library}{hint}")


def with_channels(network: nn.Module, channels: int, library: str) -> nn.Module:
    """Replace the network's first convolution by one for another number of channels, in place.

    This is for libraries whose builders only support three channels. The new weights are random; `load_state` averages
    those of three channels, as if the image had been repeated.

    Raises:
        ConfigError: the network has no convolution, or its first one is grouped.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels == channels:
                return network
            if module.groups > 1:
                break
            stem = nn.Conv2d(
                channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                module.dilation,  # type: ignore[arg-type]
                bias=module.bias is not None,
                padding_mode=module.padding_mode,
            )
            network.set_submodule(name, stem)
            return network
    raise ConfigError(f"{library}'s network takes images of 3 channels only, not {channels}")
