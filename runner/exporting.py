"""Export networks to files that other programs can run: torch.export's .pt2, and ONNX.

Every file is first loaded in a fresh process that imports nothing from this package. It gets its final name only if its
outputs there match PyTorch's.
"""

import copy
import importlib.util
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from runner.compaction.proof import TOLERANCE
from runner.errors import ConfigError, UserError, first_line

SUFFIXES = {"torch_export": ".pt2", "onnx": ".onnx"}
_ONNX = ("onnx", "onnxscript", "onnxruntime")

# The code of the fresh process. Its arguments are the exported file, the inputs and the outputs.
_RUN = {
    "torch_export": """
import sys, torch
from safetensors.torch import load_file, save_file
network = torch.export.load(sys.argv[1]).module()
inputs = load_file(sys.argv[2])
names = sorted({name.partition("/")[0] for name in inputs}, key=int)
with torch.no_grad():
    found = {n: network(*(inputs[k] for k in sorted(inputs) if k.startswith(n + "/"))) for n in names}
save_file({n: output.contiguous() for n, output in found.items()}, sys.argv[3])
""",
    "onnx": """
import sys, onnxruntime
from safetensors.numpy import load_file, save_file
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
inputs = load_file(sys.argv[2])
names = sorted({name.partition("/")[0] for name in inputs}, key=int)
arguments = [i.name for i in session.get_inputs()]
save_file({
    n: session.run(None, dict(zip(arguments, (inputs[k] for k in sorted(inputs) if k.startswith(n + "/")))))[0]
    for n in names
}, sys.argv[3])
""",
}


@dataclass(frozen=True)
class Example:
    """Example arguments of a network's `forward`, and their dynamic dimensions.

    Args:
        arguments: the tensors, with a batch size of at least 2.
        names: the names of the arguments in the exported file.
        dynamic: for each argument, a mapping from dynamic dimensions to names. Dimensions with the same name have the
            same size.
    """

    arguments: tuple[Tensor, ...]
    names: tuple[str, ...]
    dynamic: tuple[dict[int, str], ...]

    def others(self) -> list[tuple[Tensor, ...]]:
        """Return arguments of two other sizes.

        They are a batch of one, and a batch with one more example and every other dynamic dimension shorter by one.
        """
        shorter = []
        for argument, dims in zip(self.arguments, self.dynamic, strict=True):
            for dim in dims:
                argument = argument.narrow(dim, 0, argument.shape[dim] - 1) if dim else argument
            shorter.append(torch.cat([argument, argument[:1]]).contiguous())
        return [tuple(argument[:1].contiguous() for argument in self.arguments), tuple(shorter)]


def example_of(data: Any, split: str) -> Example:
    """Return two examples from a split as an `Example`.

    Its arguments are images (N, C, S, S), tokens (N, T), or source (N, S) and target (N, T).
    """
    batch = next(iter(data.eval_batches(split, 2)))
    if getattr(data, "kind", "images") == "pairs":
        # Sentences are batched by length, so the first batch may hold only one.
        pair = (_two(batch.source), _two(batch.target[:, :-1]))
        return Example(pair, ("source", "target"), ({0: "batch", 1: "source_length"}, {0: "batch", 1: "target_length"}))
    if getattr(data, "kind", "images") == "text":
        return Example((_two(batch[0]),), ("tokens",), ({0: "batch", 1: "length"},))
    return Example((_two(batch[0]),), ("images",), ({0: "batch"},))


def _two(examples: Tensor) -> Tensor:
    return torch.cat([examples, examples])[:2].cpu().contiguous()


def check_packages(format: str) -> None:
    """Raise ConfigError if a package required by the format is not installed."""
    missing = [name for name in _ONNX if importlib.util.find_spec(name) is None] if format == "onnx" else []
    if missing:
        raise ConfigError(f"format={format} needs {', '.join(missing)}: pip install '.[export]' in a checkout")


def export(network: nn.Module, example: Example, path: Path, format: str) -> float:
    """Export a network to a file, on the CPU, in evaluation mode, with float32 weights in contiguous memory format.

    Args:
        format: "torch_export" or "onnx".

    Returns:
        the largest difference between the file's outputs and PyTorch's, relative to the largest output in the batch.

    Raises:
        UserError: the network cannot be exported, or the file's outputs differ by more than `TOLERANCE`. In either
            case, the file is not written.
    """
    network = copy.deepcopy(network).cpu().float().eval()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # missing in its stubs
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.stem}.new{path.suffix}")
    try:
        with torch.no_grad(), _quiet():
            try:
                _write(network, example, beside, format)
            except Exception as error:  # exporters raise many kinds
                reason = f"{type(error).__name__}: {first_line(error)}"
                raise UserError(f"{path}: format={format} can't express this network ({reason[:200]})") from error
            difference = _check(network, [example.arguments, *example.others()], beside, format)
        if not difference <= TOLERANCE:
            raise UserError(
                f"{path} was not written: its outputs in a new process differ from PyTorch's by {difference:.1e} "
                f"relative (at most {TOLERANCE:.0e} is allowed)"
            )
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return difference


def _write(network: nn.Module, example: Example, path: Path, format: str) -> None:
    sizes = {name: torch.export.Dim(name, min=1) for dims in example.dynamic for name in dims.values()}
    dynamic = tuple({dim: sizes[name] for dim, name in dims.items()} for dims in example.dynamic)
    program = torch.export.export(network, example.arguments, dynamic_shapes=dynamic)
    if format == "torch_export":
        torch.export.save(program, path)
        return
    names = list(example.names)
    found = torch.onnx.export(program, input_names=names, output_names=["output"], dynamo=True, verbose=False)
    assert found is not None
    found.save(path, external_data=False)


def _check(network: nn.Module, batches: Sequence[tuple[Tensor, ...]], path: Path, format: str) -> float:
    """Run the file in a fresh process and return the largest relative difference from the network's outputs."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "inputs.safetensors"), Path(folder, "outputs.safetensors")
        save_file(
            {f"{b}/{i}": tensor.clone() for b, batch in enumerate(batches) for i, tensor in enumerate(batch)}, inputs
        )
        words = [sys.executable, "-c", _RUN[format], str(path.absolute()), str(inputs), str(outputs)]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise UserError(f"{path} was not written: it doesn't run in a new process ({lines[-1][:200]})")
        found = load_file(outputs)
    worst = 0.0
    for number, batch in enumerate(batches):
        expected, got = network(*batch), found[str(number)]
        if got.shape != expected.shape:
            return float("inf")
        difference, largest = float((got - expected).abs().max()), float(expected.abs().max())
        if difference != 0:  # also true for NaN
            worst = max(difference / largest if largest else float("inf"), worst)
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporters' warnings and messages about their internals."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
