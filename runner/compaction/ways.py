"""The ways of executing the whole and the compact network that a certificate compares."""

import copy
import importlib
import importlib.util
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from runner.compaction.cutting import fold_batch_norm
from runner.compaction.proof import TOLERANCE
from runner.compaction.sparse import NoKernels, SparseNetwork, kernels, sparsify, sparsify_linear
from runner.errors import first_line
from runner.models.attention import Cache, FeedForward

CHUNK = 32  # images of a large batch that are computed at once, so that their activations stay in the cache
TOKENS = 64
WHOLE, FEED_FORWARD, DECODING = "whole network", "feed-forward layers", "decoding with the cache"
WHOLE_BATCH = {"eager, NCHW": torch.contiguous_format, "eager, channels_last": torch.channels_last}
SPARSE, LINEAR = "sparse kernels", "sparse linear layers"
FOLDED = ", BatchNorm folded"

Call = Callable[[], object]
Maker = Callable[[Tensor], Call | None]  # batch → the call to time; None if this way makes no difference for the batch
Key = tuple[str, str]  # "dense" or "compact", and the name of the way
Ways = dict[Key, Maker]


@dataclass(frozen=True)
class Eager:
    """Execution by PyTorch itself.

    Args:
        network: the network, in the given memory format.
        chunk: number of images that are computed at once; None means the whole batch.
    """

    network: Callable[[Tensor], Tensor]
    memory_format: torch.memory_format = torch.contiguous_format
    chunk: int | None = None

    def __call__(self, x: Tensor) -> Call | None:
        """Return the call to time, or None if the batch fits into one chunk."""
        if self.chunk is None:
            return partial(self.network, self._laid_out(x))
        if len(x) <= self.chunk:
            return None
        parts = [self._laid_out(part) for part in x.split(self.chunk)]
        return lambda: torch.cat([self.network(part) for part in parts])

    def _laid_out(self, x: Tensor) -> Tensor:
        """Return x in the network's memory format, which only inputs (N, C, H, W) have."""
        return x.contiguous(memory_format=self.memory_format) if x.dim() == 4 else x.contiguous()


@dataclass(frozen=True)
class Sparse:
    """Sparse execution, which skips zero weights."""

    network: SparseNetwork

    def __call__(self, x: Tensor) -> Call:
        return partial(self.network, x)


def image_ways(
    dense: nn.Module,
    compact: nn.Module,
    images: Tensor,
    packed: bool,
    compiled: bool,
    onnxruntime: bool,
    notes: list[str],
) -> Ways:
    """Return the ways of executing networks that read images.

    Args:
        dense: a network with the whole network's shape and the compact network's outputs.
        packed: whether the compact network still contains its zeros, so that only sparse execution can be faster.
        compiled, onnxruntime: whether to include torch.compile and ONNX Runtime.
        notes: list to which one line is appended for each way that isn't possible.
    """
    networks = {"dense": dense} if packed else {"dense": dense, "compact": compact}
    ways: Ways = {}
    for name, network in networks.items():
        ways |= _eager(name, network, images)
        if compiled:
            ways[name, "torch.compile"] = Eager(torch.compile(network))
        if onnxruntime and (name == "dense" or ("dense", "ONNX Runtime") in ways):  # otherwise nothing to compare with
            _add(ways, notes, name, "ONNX Runtime", partial(_onnxruntime, network, images))
    _add(ways, notes, "compact", SPARSE, partial(_sparse, compact, images))
    return ways


def small_ways(network: nn.Module, images: Tensor) -> Ways:
    """Return the possible ways of executing a compact network that don't require other packages."""
    ways = _eager("compact", next(iter(_folded(network, images).values()), network), images)
    _add(ways, [], "compact", SPARSE, partial(_sparse, network, images))
    return ways


def token_ways(
    dense: nn.Module, compact: nn.Module, example: Sequence[Tensor], packed: bool, notes: list[str]
) -> dict[str, dict[Key, Call]]:
    """Return the ways of executing networks that read tokens, by executed part. For arguments, see `image_ways`.

    WHOLE is the network on the example. FEED_FORWARD is all its feed-forward layers, if it has any, one after the
    other, on TOKENS tokens. DECODING, for a language model with a `Cache`, is the last token of one sequence of the
    example, after the tokens before it.
    """
    networks = {("dense", "eager"): dense} if packed else {("dense", "eager"): dense, ("compact", "eager"): compact}
    try:
        kernels()
        sparse = sparsify_linear(compact, TOKENS)
        _check(compact(*example), sparse(*example))
        networks["compact", LINEAR] = sparse
    except (NoKernels, ValueError) as error:
        notes.append(f"sparse linear layers: not possible, {first_line(error)}")
    return {
        WHOLE: {key: partial(network, *example) for key, network in networks.items()},
        FEED_FORWARD: _feed_forward(networks),
        DECODING: _decoding(networks, compact, example[0][:1]) if hasattr(compact, "start") else {},
    }


def _add(ways: Ways, notes: list[str], name: str, way: str, maker: Callable[[], Maker]) -> None:
    """Add a way, or note why it isn't possible. Errors of other packages' exporters and compilers are caught."""
    try:
        ways[name, way] = maker()
    except Exception as error:
        notes.append(f"{way} ({name}): not possible, {first_line(error)[:200]}")


def _eager(name: str, network: nn.Module, images: Tensor) -> Ways:
    ways: Ways = {}
    for way, memory_format in WHOLE_BATCH.items():
        for suffix, one in {"": network, **_folded(network, images)}.items():
            copied = copy.deepcopy(one).to(memory_format=memory_format)  # type: ignore[call-overload]
            ways[name, f"{way}{suffix}"] = Eager(copied, memory_format)
        ways[name, f"{way}{suffix}, {CHUNK} at a time"] = Eager(copied, memory_format, CHUNK)
    return ways


def _folded(network: nn.Module, images: Tensor) -> dict[str, nn.Module]:
    """Return the network with BatchNorm folded into its layers, if any can be folded."""
    norms = sum(isinstance(module, _BatchNorm) for module in network.modules())
    if not norms:
        return {}
    folded = fold_batch_norm(network, [images[:2]])
    return {FOLDED: folded} if sum(isinstance(module, _BatchNorm) for module in folded.modules()) < norms else {}


def _sparse(network: nn.Module, images: Tensor) -> Maker:
    kernels()
    sparse = sparsify(network, images[:8])
    _check(network(images), sparse(images))
    return Sparse(sparse)


def _onnxruntime(network: nn.Module, images: Tensor) -> Maker:
    missing = [name for name in ("onnxruntime", "onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} not installed")
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    # The exporter prints its progress to the terminal.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        file = Path(folder) / "network.onnx"
        batch = ({0: torch.export.Dim.DYNAMIC},)
        torch.onnx.export(network, (images[:2],), file, dynamo=True, dynamic_shapes=batch, verbose=False)
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def make(x: Tensor) -> Call:
        array = x.numpy()
        return lambda: session.run(None, {name: array})

    _check(network(images), torch.from_numpy(session.run(None, {name: images.numpy()})[0]))
    return make


def _check(expected: Tensor, got: Tensor) -> None:
    relative = float((expected - got).abs().max() / expected.abs().max())
    if not relative <= TOLERANCE:
        raise ValueError(f"its outputs differ by {relative:.1e} relative")


def _feed_forward(networks: Mapping[Key, nn.Module]) -> dict[Key, Call]:
    calls: dict[Key, Call] = {}
    for key, network in networks.items():
        layers = [module for module in network.modules() if isinstance(module, FeedForward)]
        generator = torch.Generator().manual_seed(0)
        inputs = [torch.randn(TOKENS, layer.inner.in_features, generator=generator) for layer in layers]
        if layers:
            calls[key] = partial(_one_after_the_other, layers, inputs)
    return calls


def _one_after_the_other(layers: Sequence[nn.Module], inputs: Sequence[Tensor]) -> None:
    for layer, x in zip(layers, inputs, strict=True):
        layer(x)


def _decoding(networks: Mapping[Key, nn.Module], compact: nn.Module, tokens: Tensor) -> dict[Key, Call]:
    """Return calls for decoding. The choice of sparse layers is repeated for inputs of one token."""
    if getattr(compact, "kind", None) != "text":  # encoder-decoder networks decode in another way
        return {}
    calls: dict[Key, Call] = {}
    expected = compact(tokens)[:, -1:]
    for key, network in networks.items():
        one = network if key[1] != LINEAR else sparsify_linear(compact, 1)
        state = one.start()  # type: ignore[operator]
        if not isinstance(state, Cache):
            return {}
        one.step(tokens[:, :-1], state)  # type: ignore[operator]
        calls[key] = partial(_next, one, tokens[:, -1:], state)
        if key[0] == "compact":
            _check(expected, _next(one, tokens[:, -1:], state))
    return calls


def _next(network: Any, token: Tensor, state: Cache) -> Tensor:
    """Compute one step and leave the state unchanged."""
    logits: Tensor = network.step(token, replace(state, past=list(state.past)))
    return logits
