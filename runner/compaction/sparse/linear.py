"""Linear layers that skip zero weights, for networks that aren't executed as a whole, such as the Transformer."""

import copy
import ctypes
import logging
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from runner.compaction.sparse.checks import fits, kind
from runner.compaction.sparse.compiler import NoKernels, kernels
from runner.compaction.sparse.operations import TAP
from runner.compaction.sparse.threads import in_threads, shares
from runner.compaction.sparse.timing import in_turn

log = logging.getLogger(__name__)

_FILTERS, _TOKENS = 16, 64  # filters and tokens that a kernel processes at once
_FASTER = 1.1  # times as fast as dense; a smaller gain can't be told from noise
_ROUNDS = 7


class SparseLinear(nn.Module):
    """A linear layer that skips zero weights, for inference on the CPU.

    Args:
        dense: the float32 layer, which is kept as the submodule `dense`.

    Raises:
        NoKernels: the kernels can't be compiled on this machine.
    """

    def __init__(self, dense: nn.Linear) -> None:
        super().__init__()
        self.dense = dense
        self.in_features, self.out_features = dense.in_features, dense.out_features
        weight = dense.weight.detach().numpy()
        filters, inputs = np.nonzero(weight)
        self._taps = np.empty(len(filters), TAP)
        self._taps["offset"], self._taps["weight"] = inputs, weight[filters, inputs]
        self._start = np.searchsorted(filters, np.arange(self.out_features + 1)).astype(np.int32)
        bias = np.zeros(self.out_features) if dense.bias is None else dense.bias.detach().numpy()
        self._bias = bias.astype(np.float32)
        self._arrays = (self._start.ctypes.data, self._taps.ctypes.data, self._bias.ctypes.data)
        self._scratch: list[np.ndarray] = []
        self._library = _declared(kernels())
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> "SparseLinear":
        return SparseLinear(copy.deepcopy(self.dense, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return SparseLinear, (self.dense,)

    def train(self, mode: bool = True) -> "SparseLinear":
        """Set evaluation mode; a layer without its zeros can't be trained.

        Raises:
            ValueError: `mode` is True.
        """
        if mode:
            raise ValueError(
                "a sparse linear layer can't be trained: its zeros have been left out; train the dense one"
            )
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in_features), float32 on the CPU, to (…, out_features), without gradients.

        Raises:
            ValueError: the input has another width, dtype or device.
        """
        if not fits(x) or not x.dim() or x.shape[-1] != self.in_features:
            raise ValueError(f"this sparse layer expects (…, {self.in_features}) float32 on the cpu, not {kind(x)}")
        rows = x.detach().reshape(-1, self.in_features).contiguous()
        y = torch.empty((len(rows), self.out_features))
        threads = torch.get_num_threads()
        if len(rows) >= _TOKENS * threads or threads == 1:
            ends, by_tokens = shares(len(rows), threads, _TOKENS), True
        else:
            ends, by_tokens = shares(self.out_features, threads, _FILTERS), False

        def work(first: int, last: int) -> None:
            tokens, filters = ((first, last), (0, self.out_features)) if by_tokens else ((0, len(rows)), (first, last))
            self._run(rows, y, tokens, filters)

        if len(rows):
            in_threads(work, ends)
        return y.view(*x.shape[:-1], self.out_features)

    def _run(self, x: Tensor, y: Tensor, tokens: tuple[int, int], filters: tuple[int, int]) -> None:
        try:
            scratch = self._scratch.pop()
        except IndexError:
            scratch = np.empty(self._library.linear_scratch(self.in_features), np.float32)
        self._library.linear_taps(
            *self._arrays,
            x.data_ptr() + 4 * tokens[0] * self.in_features,
            y.data_ptr() + 4 * tokens[0] * self.out_features,
            tokens[1] - tokens[0],
            self.in_features,
            self.out_features,
            *filters,
            scratch.ctypes.data,
        )
        self._scratch.append(scratch)

    def extra_repr(self) -> str:
        """Return the sizes and the fraction of weights that are zero."""
        zeros = 1 - len(self._taps) / max(1, self.dense.weight.numel())
        return f"in_features={self.in_features}, out_features={self.out_features}, sparsity={zeros:.3f}"


def sparsify_linear(model: nn.Module, tokens: int = 64) -> nn.Module:
    """Return a copy of the model in which linear layers are replaced by `SparseLinear` where that is faster.

    Without a compiler, all layers stay dense and a warning is logged.

    Args:
        model: in eval mode, with float32 linear layers on the CPU.
        tokens: number of input rows with which layers are timed.

    Raises:
        ValueError: the model is in training mode, or a linear layer has another dtype or is on another device.
    """
    if model.training:
        raise ValueError("sparsify_linear expects a network in eval mode; call model.eval() first")
    model = copy.deepcopy(model)
    for name, layer in list(model.named_modules()):
        if type(layer) is not nn.Linear:
            continue
        if not fits(layer.weight):
            raise ValueError(f"sparsify_linear expects float32 weights on the cpu, not {name}: {kind(layer.weight)}")
        try:
            sparse = SparseLinear(layer)
        except NoKernels as error:
            log.warning("sparse execution isn't possible: %s; all layers stay dense", error)
            return model
        x = torch.randn(tokens, layer.in_features)
        with torch.inference_mode():
            dense_times, sparse_times = in_turn([partial(layer, x), partial(sparse, x)], _ROUNDS)
        # Compare the shortest times, because other programs only ever add to them.
        if min(dense_times) > _FASTER * min(sparse_times):
            if not name:
                return sparse
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, sparse)
    return model


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.linear_scratch.argtypes, library.linear_scratch.restype = [number], number
    library.linear_taps.argtypes = [*[pointer] * 5, *[number] * 5, pointer]
    library.linear_taps.restype = None
    return library
