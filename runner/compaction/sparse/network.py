"""Networks that skip zero weights when they are executed on the CPU."""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from runner.compaction.sparse.checks import fits, kind
from runner.compaction.sparse.compiler import NoKernels, kernels
from runner.compaction.sparse.executor import GROUP, Executor
from runner.compaction.sparse.trace import trace

log = logging.getLogger(__name__)


class SparseNetwork(nn.Module):
    """A network made by `sparsify`, for inference only. Later changes to the dense network's weights have no effect.

    Attributes:
        dense: the original network.
        executor: runs the network; None if there are no kernels.
        reason: the reason why there are no kernels, as text.
        shape: shape of one image.
    """

    def __init__(
        self, dense: nn.Module, example: Tensor, result: Sequence[int], executor: Executor | None, reason: str = ""
    ) -> None:
        super().__init__()
        self.dense, self.executor, self.reason = dense, executor, reason
        self.shape = tuple(example.shape[1:])
        self._example, self._result = example, tuple(result)
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> "SparseNetwork":
        return sparsify(copy.deepcopy(self.dense, memo), self._example)

    def __reduce__(self) -> tuple[Any, ...]:
        return sparsify, (self.dense, self._example)  # kernels are chosen again where it is loaded

    def train(self, mode: bool = True) -> "SparseNetwork":
        """Set evaluation mode; a network without its zeros can't be trained.

        Raises:
            ValueError: `mode` is True.
        """
        if mode:
            raise ValueError("a sparse network can't be trained: its zeros have been left out; train the dense one")
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W), float32 on the CPU, to the dense network's outputs, without gradients.

        Raises:
            ValueError: the input has another shape, dtype or device.
        """
        if not fits(x) or x.shape[1:] != self.shape:
            shape = ", ".join(map(str, self.shape))
            raise ValueError(f"this sparse network expects (N, {shape}) float32 on the cpu, not {kind(x)}")
        if self.executor is None:
            with torch.no_grad():
                return self.dense(x)
        if not x.is_contiguous():
            x = x.detach().contiguous()
        count = len(x)
        results = x.new_empty((count, *self._result))
        if count:
            self.executor.run(x.data_ptr(), results.data_ptr(), count, torch.get_num_threads())
        return results


def sparsify(model: nn.Module, example: Tensor) -> SparseNetwork:
    """Return a network that skips zero weights and uses the fastest kernels, with BatchNorm and ReLU folded.

    Without a compiler, the network stays dense and a warning is logged.

    Args:
        model: a plain, pruned model in eval mode, with float32 tensors on the CPU. It may consist of convolutions,
            linear layers, BatchNorm, ReLU, sums, pooling and views that torch.fx can trace.
        example: float32 images (N, channels, H, W). They determine the input size, and kernels are timed on them.

    Raises:
        ValueError: the model or the example is of another kind.
        Unsupported: the network has a part that isn't supported. This is a subclass of ValueError.
    """
    if any(module.training for module in model.modules()):
        raise ValueError("sparsify expects a network in eval mode; call model.eval() first")
    for name, parameter in model.named_parameters():
        if not fits(parameter):
            raise ValueError(f"sparsify expects float32 parameters on the cpu, not {name}: {kind(parameter)}")
    if not fits(example) or example.dim() != 4 or not len(example):
        raise ValueError(f"sparsify expects (N, channels, H, W) float32 images on the cpu, not {kind(example)}")
    channels, height, width = example.shape[1:]
    output = trace(model, (channels, height, width))
    images = example.detach().repeat(-(-GROUP // len(example)), 1, 1, 1)[:GROUP].contiguous()
    with torch.no_grad():
        result = model(images[:1]).shape[1:]
    try:
        library = kernels()
    except NoKernels as error:
        log.warning("sparse execution isn't possible: %s; the network stays dense", error)
        return SparseNetwork(model, images, result, None, str(error))
    return SparseNetwork(model, images, result, Executor(library, output, images.numpy()))
