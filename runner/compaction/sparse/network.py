"""A pruned network that leaves its zeros out when it is executed on a processor."""

import logging

import torch
from torch import Tensor, nn

from runner.compaction.sparse.checks import fits, kind
from runner.compaction.sparse.compiler import NoKernels, kernels
from runner.compaction.sparse.executor import GROUP, Executor
from runner.compaction.sparse.trace import trace

log = logging.getLogger(__name__)


class SparseNetwork(nn.Module):
    """What `sparsify` makes; only for inference.

    Attributes:
        executor: runs the network; None where there are no kernels.
        reason: why there are none.
        dense: the network that it was made from.
    """

    def __init__(self, dense: nn.Module, shape: tuple[int, ...], executor: Executor | None, reason: str = "") -> None:
        super().__init__()
        self.dense = dense
        self.shape, self.executor, self.reason = shape, executor, reason
        self.result: tuple[int, ...] = ()
        self.eval()

    def train(self, mode: bool = True) -> "SparseNetwork":
        """Raises ValueError for training mode."""
        if mode:
            raise ValueError("a sparse network can't be trained: its zeros have been left out; train the dense one")
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) float32 on the processor → what the dense network returns; no gradients.

        Raises:
            ValueError: the input has another shape, type or device.
        """
        if not fits(x) or x.dim() != 4 or tuple(x.shape[1:]) != self.shape:
            shape = ", ".join(map(str, self.shape))
            raise ValueError(f"this sparse network expects (N, {shape}) float32 on the cpu, not {kind(x)}")
        if self.executor is None:
            with torch.no_grad():
                return self.dense(x)
        x = x.detach().contiguous()
        results = torch.empty((len(x), *self.result))
        if len(x):
            self.executor.run(x.data_ptr(), results.data_ptr(), len(x), torch.get_num_threads())
        return results


def sparsify(model: nn.Module, example: Tensor) -> SparseNetwork:
    """The network with its zero weights left out, BatchNorm and ReLU folded, on the kernels that are fastest here.

    Without a compiler the network stays dense, which the log says.

    Args:
        model: plain and pruned, in eval mode, float32 on the processor; of convolutions, linear layers, BatchNorm,
            ReLU, sums, pools and views that torch.fx can trace.
        example: (N, channels, H, W) float32 images; they fix the size and are what kernels are timed on.

    Raises:
        ValueError: the model or the example is of another kind.
        Unsupported: a ValueError, too: the network has a part that the executor doesn't know.
    """
    if any(module.training for module in model.modules()):
        raise ValueError("sparsify expects a network in eval mode; call model.eval() first")
    for name, parameter in model.named_parameters():
        if not fits(parameter):
            raise ValueError(f"sparsify expects float32 parameters on the cpu, not {name}: {kind(parameter)}")
    if not fits(example) or example.dim() != 4 or not len(example):
        raise ValueError(f"sparsify expects (N, channels, H, W) float32 images on the cpu, not {kind(example)}")
    shape = tuple(example.shape[1:])
    output = trace(model, shape)  # type: ignore[arg-type]
    with torch.no_grad():
        expected = model(example[:1])
    try:
        library = kernels()
    except NoKernels as error:
        log.warning("sparse execution isn't possible: %s; the network stays dense", error)
        return SparseNetwork(model, shape, None, str(error))
    images = example.detach().repeat(-(-GROUP // len(example)), 1, 1, 1)[:GROUP].contiguous()
    network = SparseNetwork(model, shape, Executor(library, output, images.numpy()))
    network.result = tuple(expected.shape[1:])
    return network
