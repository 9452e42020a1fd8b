"""BatchNorm for batches that are split among processes.

torch.nn.SyncBatchNorm only works on GPUs. This works with any backend and does not change the class of modules.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes."""
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


class _Sum(torch.autograd.Function):
    """A differentiable sum over processes; its gradient is the sum of the gradients of all processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return sum_over_processes(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return sum_over_processes(gradient)


def synchronised(module: nn.modules.batchnorm._BatchNorm, share: Callable[[], float]) -> Callable[[Tensor], Tensor]:
    """Return a forward function that makes a BatchNorm module use the batch statistics of all processes in training.

    Args:
        share: function that returns the number of examples in all processes divided by the number in this process.
    """
    plain = module.forward

    def forward(x: Tensor) -> Tensor:
        if not module.training:
            return plain(x)
        dims = [dim for dim in range(x.dim()) if dim != 1]
        columns = [-1 if dim == 1 else 1 for dim in range(x.dim())]
        count = round(x.numel() / x.shape[1] * share())
        values = x.float()
        mean = _Sum.apply(values.sum(dims)) / count
        centred = values - mean.view(columns)
        # Two passes, because subtracting the squared mean from the mean of squares would lose precision.
        variance = _Sum.apply(centred.square().sum(dims)) / count
        _remember(module, mean.detach(), variance.detach() * (count / max(1, count - 1)))
        y = centred * (variance + module.eps).rsqrt().view(columns)
        if module.affine:
            y = y * module.weight.view(columns) + module.bias.view(columns)
        return y.to(x.dtype)

    return forward


def _remember(module: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics in the same way as nn.BatchNorm."""
    if module.running_mean is None or module.running_var is None or module.num_batches_tracked is None:
        return
    module.num_batches_tracked.add_(1)
    weight: Any = module.momentum
    if weight is None:  # the mean of all batches so far
        weight = (1.0 / module.num_batches_tracked).to(mean.dtype)
    module.running_mean.lerp_(mean, weight)
    module.running_var.lerp_(variance, weight)
