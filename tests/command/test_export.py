"""run export: networks of finished runs as files for other programs."""

import shutil

import pytest
import torch


def test_writes_the_pruned_network(call, finished):
    result = call("export", str(finished.folder), "sparsity=0.9")
    assert result.code == 0, result.err
    path = finished.folder / "export" / "weight-0.9.pt2"
    assert result.out.startswith(f"{path}  weights 90 %")
    weights = torch.export.load(path).state_dict
    assert max(float((weight == 0).float().mean()) for weight in weights.values() if weight.dim() == 4) > 0.8
    assert all(weight.is_contiguous() for weight in weights.values())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["format=tflite"], "format=tflite: expected torch_export, onnx"),
        (["out=a.onnx"], "out=a.onnx: expected a name that ends in .pt2"),
        (["sparsity=-1"], "sparsity=-1: expected"),
        (["split=test"], "split=test: there is no option"),
    ],
)
def test_bad_options(words, expected, call, finished, tree):
    before = tree(finished.folder)
    result = call("export", str(finished.folder), *words)
    assert (result.code, result.out) == (2, "")
    assert expected in result.err
    assert len(result.err.splitlines()) == 1
    assert tree(finished.folder) == before


def test_one_file_for_one_network(call, finished, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(finished.folder, tmp_path / "runs" / name)
    result = call("export", "runs", "out=a.pt2")
    assert (result.code, result.out) == (2, "")
    assert "out=a.pt2: one file holds one network, but there are 2" in result.err
