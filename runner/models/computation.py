"""The order in which a model computes with its layers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from runner.models.modes import evaluation_mode


def computation_order(
    model: nn.Module, layers: Mapping[str, tuple[nn.Module, str]], example: Any
) -> list[tuple[str, ...]]:
    """Which layers' weights one forward pass uses, in order; a weight that is used again counts again.

    The pass runs in evaluation mode and without gradients; modes and random numbers are afterwards as before. What
    counts is the use of a weight, not the call of a layer: a layer whose weight another module reads is found as well,
    and so are two layers that share one weight.

    Args:
        layers: name → the module that holds the weight, and the weight's name there.
        example: the model's input: a tensor, a tuple of positional or a mapping of keyword arguments.

    Returns:
        For every use the names of the layers that have the weight: none for a matrix that is no layer's, as an
        embedding's; several where layers share it.
    """
    names: dict[int, tuple[str, ...]] = {_storage(p): () for p in model.parameters() if p.dim() == 2}
    for name, (module, tensor) in layers.items():
        storage = _storage(_parameter(module, tensor))
        names[storage] = (*names.get(storage, ()), name)
    uses = _Uses(set(names))
    with evaluation_mode(model), torch.no_grad(), torch.random.fork_rng(_devices(model)), uses:
        if isinstance(example, Mapping):
            model(**example)
        else:
            model(*example if isinstance(example, tuple) else (example,))
    return [names[storage] for storage in uses.order]


class _Uses(TorchDispatchMode):
    """Notes the storages that operators read; views of them, as a transposed weight, are the same storage."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.known = known
        self.order: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            for value in tree_leaves((args, kwargs or {})):
                if isinstance(value, Tensor) and value.layout == torch.strided and _storage(value) in self.known:
                    self.order.append(_storage(value))
        return func(*args, **(kwargs or {}))


def _storage(tensor: Tensor) -> int:
    # Not data_ptr, which is 0 for all tensors on the meta device.
    return tensor.untyped_storage()._cdata


def _parameter(module: nn.Module, name: str) -> Tensor:
    """The parameter, also while a parametrization stands before it."""
    if parametrize.is_parametrized(module, name):
        module, name = module.parametrizations[name], "original"  # type: ignore[index, assignment]
    return getattr(module, name)


def _devices(model: nn.Module) -> list[int]:
    """Indices of the GPUs that the model is on."""
    return sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
