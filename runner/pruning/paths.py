"""Effective sparsity: weights that are not zero, and still count for nothing.

At high sparsities whole filters run empty, and with them die the weights that fed them and those that read them. A
weight counts only if a path of weights that are not zero leads from an input through it to an output (Vysogorets &
Kempe, 2023, "Connectivity matters: neural network pruning through the lens of effective sparsity").
"""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# Of these outputs are averages or differences of what comes in: signs are lost, and paths with them.
_MIXING = (nn.LayerNorm, nn.GroupNorm, nn.MultiheadAttention, nn.Softmax)


def effective_sparsity(model: nn.Module, layers: Iterable[str], example: Sequence[Tensor]) -> float | None:
    """The fraction of the layers' weights through which no path leads.

    The network is computed once on ones, with 1 for every weight that is not zero, no biases and BatchNorm left out.
    All that is computed is then positive, and the derivative of the summed output by a weight counts its paths. A
    filter without inputs passes on its bias or its BatchNorm's shift in the real network; here it counts as removed.

    Args:
        model: plain, of convolutions, linear layers, BatchNorm, pooling and activations that let positive numbers
            through; it is only read.
        layers: names of those whose weights are counted.
        example: arguments of its forward, of which images are replaced by ones.

    Returns:
        None where the network has other layers, as attention, or gives anything but one tensor.
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
    output = copied(*(torch.ones_like(one[:1].cpu(), dtype=torch.float64) for one in example))
    if not isinstance(output, Tensor):
        return None
    chosen = [weights[name] for name in names]
    gradients = torch.autograd.grad(output.sum(), chosen, allow_unused=True, materialize_grads=True)
    alive = sum(int((gradient * weight != 0).sum()) for gradient, weight in zip(gradients, chosen, strict=True))
    return 1 - alive / sum(weight.numel() for weight in chosen)


def _count_only(module: nn.Module) -> None:
    """Ones in place of weights, each filter's divided by how many it has, so that sums stay small."""
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
