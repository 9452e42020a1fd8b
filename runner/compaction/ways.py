"""Ways to execute the whole and the compact network that a certificate compares."""

import copy
import importlib
import importlib.util
import io
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runner.compaction.proof import TOLERANCE
from runner.compaction.sparse import NoKernels, kernels, sparsify, sparsify_linear
from runner.errors import first_line
from runner.models.attention import FeedForward

CHUNK = 32  # images of a large batch that go through the network at once, so that what they become stays in cache
TOKENS = 64
WHOLE_BATCH = {"eager, NCHW": torch.contiguous_format, "eager, channels_last": torch.channels_last}

Call = Callable[[], object]
Maker = Callable[[Tensor], Call | None]  # a batch → what is timed; None where this way is no other for it
Key = tuple[str, str]  # "dense" or "compact", and the way
Ways = dict[Key, Maker]


def image_ways(
    dense: nn.Module,
    compact: nn.Module,
    images: Tensor,
    packed: bool,
    compiled: bool,
    onnxruntime: bool,
    notes: list[str],
) -> Ways:
    """Ways for networks that read images, each with its own copies.

    Args:
        dense: of the whole network's shape, with the outputs that the compact one has.
        packed: whether the compact network still has its zeros, so that only sparse execution can be faster.
        notes: gets a line for each way that isn't possible.
    """
    networks = {"dense": dense} if packed else {"dense": dense, "compact": compact}
    ways: Ways = {}
    for name, network in networks.items():
        for way, memory_format in WHOLE_BATCH.items():
            copied = copy.deepcopy(network).to(memory_format=memory_format)  # type: ignore[call-overload]
            ways[name, way] = _whole_batch(copied, memory_format)
            ways[name, f"{way}, {CHUNK} at a time"] = _in_chunks(copied, memory_format)
        if compiled:
            ways[name, "torch.compile"] = _whole_batch(torch.compile(network), torch.contiguous_format)
        if onnxruntime and (name == "dense" or ("dense", "ONNX Runtime") in ways):  # or it would have nothing to beat
            _add(ways, notes, name, "ONNX Runtime", partial(_onnxruntime, network, images))
    _add(ways, notes, "compact", "sparse kernels", partial(_sparse, compact, images))
    return ways


def feed_forward_ways(dense: nn.Module, compact: nn.Module, packed: bool, notes: list[str]) -> dict[Key, Call]:
    """All feed-forward layers of a Transformer, one after the other, on TOKENS tokens; arguments as `image_ways`."""
    networks = {"dense": dense} if packed else {"dense": dense, "compact": compact}
    calls = {(name, "eager, feed-forward layers"): _feed_forward(network) for name, network in networks.items()}
    try:
        kernels()
        calls["compact", "sparse kernels, feed-forward layers"] = _feed_forward(sparsify_linear(compact, TOKENS))
    except (NoKernels, ValueError) as error:
        notes.append(f"sparse kernels: not possible, {first_line(error)}")
    return calls


def _add(ways: Ways, notes: list[str], name: str, way: str, maker: Callable[[], Maker]) -> None:
    """Add a way, or say why there is none; whatever other people's exporters and compilers run into ends no command."""
    try:
        ways[name, way] = maker()
    except Exception as error:
        notes.append(f"{way} ({name}): not possible, {first_line(error)[:200]}")


def _whole_batch(network: Callable[[Tensor], object], memory_format: torch.memory_format) -> Maker:
    def make(x: Tensor) -> Call:
        return partial(network, x.contiguous(memory_format=memory_format))

    return make


def _in_chunks(network: Callable[[Tensor], Any], memory_format: torch.memory_format) -> Maker:
    def make(x: Tensor) -> Call | None:
        if len(x) <= CHUNK:
            return None
        parts = [part.contiguous(memory_format=memory_format) for part in x.split(CHUNK)]
        return lambda: torch.cat([network(part) for part in parts])

    return make


def _sparse(network: nn.Module, images: Tensor) -> Maker:
    kernels()
    sparse = sparsify(network, images[:8])
    _check(network(images), sparse(images))

    def make(x: Tensor) -> Call:
        return partial(sparse, x)

    return make


def _onnxruntime(network: nn.Module, images: Tensor) -> Maker:
    missing = [name for name in ("onnxruntime", "onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} not installed")
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    # The exporter counts what it does on the terminal.
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


def _feed_forward(network: nn.Module) -> Call:
    layers = [module for module in network.modules() if isinstance(module, FeedForward)]
    if not layers:
        raise ValueError("the network reads no images and has no feed-forward layers; its time isn't measured")
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(TOKENS, layer.inner.in_features, generator=generator) for layer in layers]
    return lambda: [layer(x) for layer, x in zip(layers, inputs, strict=True)]
