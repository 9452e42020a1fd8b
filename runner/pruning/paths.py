"""Effective sparsity, which also counts non-zero weights that have no effect.

At high sparsities, whole filters lose all their inputs. The weights that feed them and those that read them then have
no effect. A weight counts only if a path of non-zero weights leads from an input through it to an output (Vysogorets &
Kempe, 2023, "Connectivity matters: neural network pruning through the lens of effective sparsity").
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode

# These layers average or subtract their inputs, so derivatives can cancel although paths exist.
_MIXING = (
    *(nn.LayerNorm, nn.GroupNorm, _InstanceNorm, nn.RMSNorm, nn.MultiheadAttention),
    *(nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax),
)
_SMALL = 2.0**-10  # the input, so that activations with an upper bound pass it through


def effective_sparsity(model: nn.Module, layers: Iterable[str], example: Sequence[Tensor]) -> float | None:
    """Return the fraction of the layers' weights that lie on no path from an input to an output.

    The network is evaluated once on a constant input, with equal positive values that sum to 1 in place of each
    filter's non-zero weights, without biases and BatchNorm, and with average instead of max pooling, which would pass
    the derivative to one position only. No value is negative, so the derivative of the summed output with respect
    to a weight is zero unless a path leads through it. In the real network, a filter without inputs passes on its bias
    or its BatchNorm's shift; here it counts as removed.

    Args:
        model: a plain model with convolutions, linear layers, BatchNorm, pooling, and activations that pass positive
            numbers through; it is not modified.
        layers: names of the layers whose weights are counted.
        example: batched arguments of the model's `forward`; only their shapes matter.

    Returns:
        The fraction, or None if the network has other layers, such as attention, or integer inputs, or if it returns
        anything but one tensor.
    """
    if any(isinstance(module, _MIXING) or type(module).__name__ == "Attention" for module in model.modules()):
        return None
    copied = copy.deepcopy(model).cpu().double().eval()
    with torch.no_grad():
        for module in copied.modules():
            _count_only(module)
    names = [name if name.endswith("weight") else f"{name}.weight" for name in layers]
    weights = {name: parameter.requires_grad_(True) for name, parameter in copied.named_parameters()}
    if not all(name in weights for name in names) or not all(one.is_floating_point() for one in example):
        return None
    with _AveragePooling():
        output = copied(*(torch.full_like(one[:1].cpu(), _SMALL, dtype=torch.float64) for one in example))
    if not isinstance(output, Tensor):
        return None
    chosen = [weights[name] for name in names]
    gradients = torch.autograd.grad(output.sum(), chosen, allow_unused=True, materialize_grads=True)
    alive = sum(int((gradient * weight != 0).sum()) for gradient, weight in zip(gradients, chosen, strict=True))
    return 1 - alive / sum(weight.numel() for weight in chosen)


class _AveragePooling(TorchFunctionMode):
    """Replace max pooling by average pooling over the same windows, whatever their dilation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in _MAX_POOLS:
            return _MAX_POOLS[name](*args[:4], **{k: v for k, v in kwargs.items() if k in _POOL_WORDS})
        if name in _ADAPTIVE_MAX_POOLS:
            return _ADAPTIVE_MAX_POOLS[name](*args[:2], **{k: v for k, v in kwargs.items() if k == "output_size"})
        return func(*args, **kwargs)


_POOL_WORDS = ("kernel_size", "stride", "padding", "ceil_mode")
_MAX_POOLS: dict[str, Any] = {"max_pool1d": F.avg_pool1d, "max_pool2d": F.avg_pool2d, "max_pool3d": F.avg_pool3d}
_ADAPTIVE_MAX_POOLS: dict[str, Any] = {
    "adaptive_max_pool1d": F.adaptive_avg_pool1d,
    "adaptive_max_pool2d": F.adaptive_avg_pool2d,
    "adaptive_max_pool3d": F.adaptive_avg_pool3d,
}


def _count_only(module: nn.Module) -> None:
    """Set the non-zero weights of each filter to the inverse of their number, and disable biases and BatchNorm.

    With these weights, sums stay small.
    """
    if isinstance(module, _BatchNorm):
        if module.weight is not None:
            module.weight.fill_(1)
            module.bias.zero_()
        if module.running_mean is not None and module.running_var is not None:
            module.running_mean.zero_()
            module.running_var.fill_(1)
        return
    for parameter in module.parameters(recurse=False):
        if parameter.dim() < 2:
            parameter.zero_()
        else:
            ones = parameter.ne(0).to(parameter.dtype)
            parameter.copy_(ones / ones.flatten(1).sum(1).clamp(min=1).view(-1, *[1] * (ones.dim() - 1)))
