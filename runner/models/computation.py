"""The order in which a model uses its layers."""

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
    """Return the layers whose weights one forward pass uses, in order of use and with repetitions.

    The pass runs in evaluation mode and without gradients. Modes and the random state are restored. Uses of weights are
    recorded rather than calls of layers. Layers whose weights are read by another module and layers that share a weight
    are therefore found as well.

    Args:
        layers: mapping from name to a tuple of the module that holds the weight and the weight's name in it.
        example: the model's input: a tensor, a tuple of positional arguments or a mapping of keyword arguments.

    Returns:
        For each use, the names of the layers that have the weight. There are none for a matrix that belongs to no
        layer, such as an embedding's, and several if layers share the weight.
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
    """Records the storages that operators read. Views, such as a transposed weight, have the same storage."""

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
    """Return the parameter, even if it has a parametrization."""
    if parametrize.is_parametrized(module, name):
        module, name = module.parametrizations[name], "original"  # type: ignore[index, assignment]
    return getattr(module, name)


def _devices(model: nn.Module) -> list[int]:
    """Return the indices of the GPUs that the model is on."""
    return sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
