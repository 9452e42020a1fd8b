"""Linear layers that leave their zero weights out, for networks that aren't executed as a whole: the Transformer."""

import copy
import ctypes
import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from runner.compaction.sparse.compiler import NoKernels, kernels
from runner.compaction.sparse.program import TAP
from runner.compaction.sparse.threads import in_threads, shares

log = logging.getLogger(__name__)

_FILTERS, _TOKENS = 16, 64  # that a kernel takes at once
_FASTER = 1.1  # than dense; less isn't told from noise
_ROUNDS = 7


class SparseLinear(nn.Module):
    """A linear layer's non-zero weights, for inference on a processor.

    Args:
        dense: the layer, float32; it stays the submodule `dense`.

    Raises:
        NoKernels: they can't be compiled here.
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
        self._scratch: list[np.ndarray] = []
        self._library = _declared(kernels())
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> "SparseLinear":
        return SparseLinear(copy.deepcopy(self.dense, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return SparseLinear, (self.dense,)

    def train(self, mode: bool = True) -> "SparseLinear":
        """Raises ValueError for training mode."""
        if mode:
            raise ValueError("a sparse linear layer can't be trained: its zeros have been left out; train the dense one")
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) float32 on the processor → (…, out_features); no gradients.

        Raises:
            ValueError: the input has another width, type or device.
        """
        if x.dtype != torch.float32 or x.device.type != "cpu" or not x.dim() or x.shape[-1] != self.in_features:
            kind = f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')} on the {x.device.type}"
            raise ValueError(f"a sparse linear layer expects (…, {self.in_features}) float32 on the cpu, not {kind}")
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
            self._start.ctypes.data,
            self._taps.ctypes.data,
            self._bias.ctypes.data,
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
        """Sizes, and the fraction of weights that are zero."""
        zeros = 1 - len(self._taps) / max(1, self.dense.weight.numel())
        return f"in_features={self.in_features}, out_features={self.out_features}, sparsity={zeros:.3f}"


def sparsify_linear(model: nn.Module, tokens: int = 64) -> nn.Module:
    """A copy of the model in which every linear layer that is faster so is a `SparseLinear`.

    Without a compiler all layers stay dense, which the log says.

    Args:
        model: in eval mode; its linear layers float32 on the processor.
        tokens: rows of the inputs that layers are timed on.

    Raises:
        ValueError: the model is in training mode, or a layer of another type or device.
    """
    if model.training:
        raise ValueError("sparsify_linear expects a network in eval mode; call model.eval() first")
    model = copy.deepcopy(model)
    for name, layer in list(model.named_modules()):
        if type(layer) is not nn.Linear:
            continue
        if layer.weight.dtype != torch.float32 or layer.weight.device.type != "cpu":
            raise ValueError(f"sparsify_linear expects float32 on the cpu, not layer {name}: {layer.weight.dtype} on the {layer.weight.device.type}")
        try:
            sparse = SparseLinear(layer)
        except NoKernels as error:
            log.warning("sparse execution isn't possible: %s; all layers stay dense", error)
            return model
        x = torch.randn(tokens, layer.in_features)
        with torch.inference_mode():
            dense_time, sparse_time = in_turn([lambda layer=layer, x=x: layer(x), lambda s=sparse, x=x: s(x)])  # type: ignore[misc]
        if dense_time > _FASTER * sparse_time:
            if not name:
                return sparse
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, sparse)
    return model


def in_turn(calls: list[Callable[[], object]], rounds: int = _ROUNDS) -> list[float]:
    """Seconds of each, the median of rounds in which all are called one after the other."""
    times: list[list[float]] = [[] for _ in calls]
    for round_ in range(rounds + 1):
        for call, took in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if round_:  # the first one fills caches
                took.append(time.perf_counter() - start)
    return [float(np.median(took)) for took in times]


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.linear_scratch.argtypes, library.linear_scratch.restype = [number], number
    library.linear_taps.argtypes = [*[pointer] * 5, *[number] * 5, pointer]
    library.linear_taps.restype = None
    return library
