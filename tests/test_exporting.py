"""Exported networks: checked in a fresh process, for any batch size and length."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from runner import exporting
from runner.compaction.cutting import compact
from runner.errors import ConfigError, UserError
from runner.exporting import Example, check_packages, export
from runner.models.autoencoder import Autoencoder
from runner.models.gpt import GPT
from runner.models.memory_format import use_fast_memory_format
from runner.models.resnet import ResNet
from runner.models.transformer import Transformer
from runner.pruning.apply import prune

TOKENS = Example((torch.randint(50, (2, 6)),), ("tokens",), ({0: "batch", 1: "length"},))
IMAGES = Example((torch.rand(2, 1, 8, 8),), ("images",), ({0: "batch"},))
PAIRS = Example(
    (torch.randint(3, 50, (2, 6)), torch.randint(3, 50, (2, 5))),
    ("source", "target"),
    ({0: "batch", 1: "source_length"}, {0: "batch", 1: "target_length"}),
)


def network(task: str) -> tuple[torch.nn.Module, Example]:
    torch.manual_seed(0)
    if task == "translation":
        return Transformer(50, layers=1, features=16, heads=2, feed_forward=32), PAIRS
    if task.startswith("language"):
        sizes = {"context": 9, "layers": 1, "features": 16, "heads": 2, "feed_forward": 32}
        return GPT(50, **sizes, positions="rotary" if task.endswith("rotary") else "learned"), TOKENS
    if task == "reconstruction":
        return Autoencoder(1, 8, 10, widths=(16,), code=4), IMAGES
    return use_fast_memory_format(ResNet(1, 8, 10, blocks=1, width=0.25)), IMAGES


# Runs the code of one check a line, and answers each with its error or an empty line.
CHECKS = """
import json, sys
for line in sys.stdin:
    code, sys.argv = json.loads(line)
    try:
        exec(code, {})
        assert "runner" not in sys.modules
        print(flush=True)
    except Exception as error:
        print(repr(error).replace(chr(10), " "), flush=True)
"""


@pytest.fixture(scope="module")
def checker() -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", CHECKS]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


@pytest.fixture
def one_process(checker, monkeypatch):
    """Check all files that need torch in one fresh process, because importing it takes seconds.

    Files of ONNX, and that of tests/command/test_export.py, have a fresh process each, as `export` starts it.
    """

    def run(words, **options):
        _, _, code, *arguments = words
        if "torch.export" not in code:
            return subprocess.run(words, **options)
        checker.stdin.write(json.dumps([code, ["-c", *arguments]]) + "\n")
        checker.stdin.flush()
        error = checker.stdout.readline().strip()
        return subprocess.CompletedProcess(words, int(error != ""), stderr=error)

    monkeypatch.setattr(exporting, "subprocess", SimpleNamespace(run=run))


# Every kind of arguments with each format. The cut networks below are the other two combinations.
@pytest.mark.slow
@pytest.mark.parametrize(
    "task, format",
    [
        ("classification", "torch_export"),
        ("reconstruction", "onnx"),
        ("translation", "onnx"),
        ("language, learned", "onnx"),
        ("language, rotary", "onnx"),
        ("language, rotary", "torch_export"),
    ],
)
def test_same_outputs_in_a_fresh_process_at_other_sizes(task, format, tmp_path, one_process):
    if format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    model, example = network(task)
    path = tmp_path / f"a{exporting.SUFFIXES[format]}"
    assert export(model, example, path, format) <= 1e-5
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.slow
@pytest.mark.parametrize("task, format", [("classification", "onnx"), ("translation", "torch_export")])
def test_networks_that_were_cut(task, format, tmp_path, one_process):
    """Sums written by index, fewer heads, attention and feed-forward layers of different widths."""
    if format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    model, example = network(task)
    prune(model, 0.5, "unit")
    result = compact(model.eval(), example.arguments, fold=True)
    assert result.structure.scattered
    assert export(result.network, example, tmp_path / f"a{exporting.SUFFIXES[format]}", format) <= 1e-5


@pytest.mark.parametrize("found", [1e-3, float("nan")])
def test_other_outputs_leave_no_file(found, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_check", lambda *_: found)
    with pytest.raises(UserError, match="not written: its outputs in a new process differ") as raised:
        export(torch.nn.Flatten(), IMAGES, tmp_path / "a.pt2", "torch_export")
    assert raised.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_compared_is_the_file(tmp_path, one_process, monkeypatch):
    """A file that contains another network than the one compared is detected."""
    model, write = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)), exporting._write

    def other(network, *rest):
        write(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)), *rest)

    monkeypatch.setattr(exporting, "_write", other)
    with pytest.raises(UserError, match="differ from PyTorch's"):
        export(model, IMAGES, tmp_path / "a.pt2", "torch_export")


def test_a_network_that_can_not_be_exported(tmp_path):
    class Branches(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(UserError, match="format=torch_export can't express this network") as raised:
        export(Branches(), IMAGES, tmp_path / "a.pt2", "torch_export")
    assert len(str(raised.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_packages("torch_export")
    with pytest.raises(ConfigError, match=r"onnx, onnxscript, onnxruntime: pip install '\.\[export\]'"):
        check_packages("onnx")
