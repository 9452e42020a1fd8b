"""Gradients and layer inputs on training data, as used by criteria."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from runner.errors import UserError
from runner.models.layers import AttentionProjections
from runner.pruning.criteria.base import Evidence
from runner.pruning.granularities.base import Members

BATCH = 50  # examples


def batches(evidence: Evidence, examples: int, size: int = BATCH) -> Iterator[Any]:
    """Yield training batches; batches of tensors are split into smaller ones of at most `size` examples."""
    if evidence.batches is None:
        raise UserError("this criterion needs training data, but there is none")
    for batch in evidence.batches(examples):
        if isinstance(batch, tuple | list) and all(isinstance(part, Tensor) for part in batch):
            yield from zip(*(part.split(size) for part in batch), strict=True)
        else:
            yield batch


@contextmanager
def differentiable(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Context manager in which the weights require gradients; other parameters are not affected."""
    before = {name: weight.requires_grad for name, weight in weights.items()}
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for name, weight in weights.items():
            weight.requires_grad_(before[name])


def losses(evidence: Evidence, examples: int, batch: int = BATCH) -> Iterator[tuple[Tensor, int]]:
    """Yield the mean loss of each batch, in evaluation mode, and the number of its examples."""
    if evidence.model is None or evidence.task is None:
        raise UserError("this criterion needs the loss of a network, but no network was given")
    evidence.model.eval()
    for part in batches(evidence, examples, batch):
        with evidence.context():
            loss, _, count = evidence.task.training_loss(evidence.model, part)
        yield loss, count


def gradients(members: Members, loss: Tensor) -> dict[str, Tensor]:
    """Return ∂ loss / ∂ weight by layer, float32 with filters in dim 0; zeros if the loss does not depend on it."""
    found = torch.autograd.grad(loss, list(members.weights.values()), allow_unused=True, materialize_grads=True)
    return members.turned({name: gradient.float() for name, gradient in zip(members.weights, found, strict=True)})


@torch.no_grad()
def input_norms(members: Members, evidence: Evidence, examples: int) -> dict[str, Tensor]:
    """Return the L2 norm of the inputs to each weight of a filter, over all examples and positions.

    Returns:
        A mapping from layer to a tensor that broadcasts over its weight, with filters in dim 0. The norms are the same
        for all filters of a layer (or of a group, or of a projection).

    Raises:
        UserError: a layer's input can't be observed, because another module reads its weight.
    """

    def watch(squares: dict[str, Tensor], name: str, layer: nn.Module) -> RemovableHandle:
        if isinstance(layer, AttentionProjections):
            hook = _projection_hook(squares, name, layer)
            return layer.attention.register_forward_pre_hook(hook, with_kwargs=True)
        return layer.register_forward_pre_hook(_layer_hook(squares, name, layer))

    squares = sums_of_inputs(members, evidence, examples, watch)
    return members.turned({name: square.sqrt() for name, square in squares.items()})


def sums_of_inputs(
    members: Members,
    evidence: Evidence,
    examples: int,
    watch: Callable[[dict[str, Tensor], str, nn.Module], RemovableHandle],
) -> dict[str, Tensor]:
    """Return the sums that hooks accumulate over the examples, by layer.

    Args:
        watch: function that takes the sums, a layer's name and the layer, registers a hook on the layer and returns its
            handle. The hook adds to the sums with `add`.

    Raises:
        UserError: a layer's input can't be observed, because another module reads its weight.
    """
    sums: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, layer in members.layers.items():
            hooks.callback(watch(sums, name, layer).remove)
        for _ in losses(evidence, examples):
            pass
    if unseen := [name for name in members.layers if name not in sums]:
        raise UserError(
            f"the input of layer {unseen[0]!r} is not observed, as another module reads its weight; leave it out"
        )
    return sums


def add(sums: dict[str, Tensor], name: str, found: Tensor) -> None:
    """Add to a layer's sum, out of place."""
    sums[name] = sums[name] + found if name in sums else found


def _layer_hook(squares: dict[str, Tensor], name: str, layer: nn.Module) -> Any:
    """Return a hook that sums the squared inputs of each of the layer's weights over all calls of the layer.

    A layer is linear in its weight, so the derivative of its summed outputs with respect to a weight is the sum of the
    inputs that this weight is multiplied with. With squared inputs, this is the required sum for any kind of layer.
    """
    twin = copy.copy(layer)
    twin._forward_hooks, twin._forward_pre_hooks = OrderedDict(), OrderedDict()

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        with torch.enable_grad(), torch.autocast(inputs[0].device.type, enabled=False):
            weight = nn.Parameter(torch.zeros(layer.weight.shape, device=inputs[0].device))  # type: ignore[arg-type]
            # A bias adds nothing to the derivative, and may have another dtype.
            twin._parameters = dict.fromkeys(layer._parameters) | {"weight": weight}
            output = twin(inputs[0].detach().float().square(), *inputs[1:])
            add(squares, name, torch.autograd.grad(output.sum(), weight)[0])

    return hook


def _projection_hook(squares: dict[str, Tensor], name: str, layer: AttentionProjections) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        query, key, value = (named.get(word, inputs[i] if i < len(inputs) else None) for i, word in enumerate(_WORDS))
        sources = {"q_proj_weight": [query], "k_proj_weight": [key], "v_proj_weight": [value]}
        parts = [
            cast(Tensor, source).detach().float().flatten(0, -2).square().sum(0)
            for source in sources.get(layer.parameter, [query, key, value])
        ]
        rows = len(layer.weight) // len(parts)
        add(squares, name, torch.cat([part.expand(rows, -1) for part in parts]))

    return hook


_WORDS = ("query", "key", "value")
