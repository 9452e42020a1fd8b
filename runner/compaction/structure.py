"""Describe the shape of a cut network as plain values, and apply it to a network."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from runner.compaction.scatter import Scatter, write_by_index


@dataclass
class Structure:
    """How a cut network differs from the network that its class builds.

    Attributes:
        layers: mapping from convolution or linear layer to inputs, outputs and bias.
        channels: mapping from BatchNorm or depthwise convolution to its number of channels.
        heads: mapping from attention module to its number of heads.
        folded: BatchNorms that are folded into the preceding layer.
        scattered: mapping from module to dim, channels, index and constant of its output, which is written into a sum;
            see `write_by_index`.
    """

    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    folded: list[str] = field(default_factory=list)
    scattered: dict[str, dict[str, Any]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def apply_structure(model: nn.Module, structure: Structure) -> None:
    """Resize a model to the structure's shapes, in place. Parameters that are resized lose their values.

    Raises:
        ValueError: the structure doesn't fit the model.
    """
    modules = dict(model.named_modules())
    whole = {name: _width(modules, name) for name in structure.scattered}
    for name, shape in structure.layers.items():
        _reshape_layer(_find(modules, name), name, **shape)
    for name, channels in structure.channels.items():
        _reshape_channels(_find(modules, name), name, channels)
    for name, heads in structure.heads.items():
        attention = _find(modules, name)
        if not 1 <= heads <= getattr(attention, "heads", 0):
            raise ValueError(f"{name} has no {heads} heads")
        attention.heads = heads  # type: ignore[assignment]
        for child in attention.children():
            if hasattr(child, "matrices"):
                child.matrices = heads  # type: ignore[assignment]
    for name, place in structure.scattered.items():
        if place["channels"] > whole[name] or len(place["index"]) != _width(modules, name):
            raise ValueError(f"{name} can't be scattered over {place['channels']} channels")
        write_by_index(modules, name, **place)
    for name in structure.folded:
        if not isinstance(_find(modules, name), _BatchNorm):
            raise ValueError(f"{name} is not a BatchNorm")
        holder = dict(model.named_modules())[name]
        if isinstance(holder, Scatter):
            holder.module = nn.Identity()
        else:
            setattr(modules[name.rpartition(".")[0]], name.rpartition(".")[2], nn.Identity())


def shared_names(model: nn.Module) -> dict[str, str]:
    """Return a mapping from each additional name of a shared parameter to its first name."""
    first: dict[int, str] = {}
    names = [(name, id(parameter)) for name, parameter in model.named_parameters(remove_duplicate=False)]
    found = {name: first.setdefault(key, name) for name, key in names}
    return {name: other for name, other in found.items() if name != other}


def load_state_sharing(model: nn.Module, state: Mapping[str, Tensor], shared: Mapping[str, str]) -> None:
    """Load tensors into the model without copying them. Shared parameters stay shared.

    Args:
        state: tensors by name; a shared tensor is only needed under its first name.
        shared: see `shared_names`.
    """
    model.load_state_dict({**state, **{name: state[first] for name, first in shared.items()}}, assign=True)
    for name, first in shared.items():
        holder, _, parameter = name.rpartition(".")
        setattr(model.get_submodule(holder), parameter, model.get_parameter(first))


def _width(modules: Mapping[str, nn.Module], name: str) -> int:
    """Return the number of output channels of a module."""
    module = _find(modules, name)
    for attribute in ("num_features", "out_channels", "out_features"):
        if isinstance(width := getattr(module, attribute, None), int):
            return width
    raise ValueError(f"{name} has no output channels")


def _find(modules: Mapping[str, nn.Module], name: str) -> nn.Module:
    if name not in modules:
        raise ValueError(f"there is no module {name}")
    return modules[name]


def _reshape_layer(layer: nn.Module, name: str, inputs: int, outputs: int, bias: bool) -> None:
    if isinstance(layer, nn.Linear):
        most = (layer.in_features, layer.out_features)
        layer.in_features, layer.out_features = inputs, outputs
        shape: tuple[int, ...] = (outputs, inputs)
    elif isinstance(layer, _ConvNd) and layer.groups == 1:
        most = (layer.in_channels, layer.out_channels)
        layer.in_channels, layer.out_channels = inputs, outputs
        first = (inputs, outputs) if isinstance(layer, _ConvTransposeNd) else (outputs, inputs)
        shape = (*first, *layer.kernel_size)
    else:
        raise ValueError(f"{name} is not a layer that can be cut")
    if not (1 <= inputs <= most[0] and 1 <= outputs <= most[1]):
        raise ValueError(
            f"{name} can't have {inputs} inputs and {outputs} outputs; uncut it has {most[0]} and {most[1]}"
        )
    weight = layer.weight
    layer.weight = _empty(weight, shape)
    layer.bias = _empty(weight, (outputs,)) if bias else None


def _reshape_channels(module: nn.Module, name: str, channels: int) -> None:
    if isinstance(module, _BatchNorm):
        most, module.num_features = module.num_features, channels
    elif isinstance(module, _ConvNd) and module.groups == module.in_channels == module.out_channels:
        most = module.groups
        module.groups = module.in_channels = module.out_channels = channels
    else:
        raise ValueError(f"{name} has no channels that can be cut")
    if not 1 <= channels <= most:
        raise ValueError(f"{name} can't have {channels} channels; uncut it has {most}")
    for key, parameter in module.named_parameters(recurse=False):
        setattr(module, key, _empty(parameter, (channels, *parameter.shape[1:])))
    for key, buffer in module.named_buffers(recurse=False):
        if buffer.dim():
            setattr(module, key, buffer.new_empty((channels, *buffer.shape[1:])))


def _empty(like: Tensor, shape: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(like.new_empty(shape), requires_grad=like.requires_grad)
