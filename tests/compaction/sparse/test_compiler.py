"""The compilation of the kernels: once, on first use, and optional."""

import logging
import os
import stat

import pytest
import torch
from torch import nn

from runner.compaction.sparse import NoKernels, compiler, sparsify, sparsify_linear

MODEL = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()).eval()
IMAGES = torch.linspace(-1, 1, 72).reshape(2, 1, 6, 6)


@pytest.fixture
def fresh():
    """Kernels that no earlier test has loaded."""
    compiler.kernels.cache_clear()
    yield
    compiler.kernels.cache_clear()


@pytest.fixture
def failing_compiler(tmp_path, monkeypatch, fresh):
    """A compiler that always fails, and an empty cache."""
    script = tmp_path / "compiler"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] || { echo no such thing >&2; exit 1; }\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler_networks_stay_dense(monkeypatch, caplog):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    with caplog.at_level(logging.WARNING):
        sparse, linear = sparsify(MODEL, IMAGES), sparsify_linear(nn.Sequential(nn.Linear(4, 4)).eval())
    assert sparse.executor is None
    assert "no C compiler" in sparse.reason
    assert [r.getMessage().count("\n") for r in caplog.records] == [0, 0]
    assert "stays dense" in caplog.text
    assert "stay dense" in caplog.text
    assert torch.equal(sparse(IMAGES), MODEL(IMAGES))
    assert type(linear[0]) is nn.Linear
    with pytest.raises(ValueError, match="expects"):
        sparse(IMAGES[:, :, 1:])


@pytest.mark.usefixtures("failing_compiler")
def test_a_failing_compiler_is_quoted(tmp_path):
    sparse = sparsify(MODEL, IMAGES)
    assert "failed: no such thing" in sparse.reason
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("fresh")
def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -O1")
    with pytest.raises(NoKernels, match="CC=no-such-compiler -O1"):
        compiler.kernels()


@pytest.mark.usefixtures("fresh")
def test_compiled_once_into_a_private_place(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiler, "_FLAGS", tuple(f.replace("-O3", "-O0") for f in compiler._FLAGS))
    compiler.kernels()
    (library,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert stat.S_IMODE(library.stat().st_mode) == 0o700
    made = library.stat().st_mtime_ns
    compiler.kernels.cache_clear()
    compiler.kernels()
    assert library.stat().st_mtime_ns == made
    library.chmod(0o777)  # another user might have written it
    compiler.kernels.cache_clear()
    compiler.kernels()
    assert library.stat().st_mtime_ns > made
    assert stat.S_IMODE(library.stat().st_mode) == 0o700


def test_a_place_that_others_write_to_is_not_used(tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("RUNNER_CACHE", str(shared))
    assert compiler._cache_directory() != shared
    shared.chmod(0o700)
    assert compiler._cache_directory() == shared


def test_the_key_tells_sources_and_compilers_apart(tmp_path, monkeypatch):
    for name, version in (("first", "1"), ("second", "2")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {version}\n")
        (tmp_path / name).chmod(0o755)
    first, second = ([str(tmp_path / name)] for name in ("first", "second"))
    keys = {compiler._key(first), compiler._key(second)}
    changed = tmp_path / "kernels.c"
    changed.write_bytes(compiler.SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(compiler, "SOURCE", changed)
    keys.add(compiler._key(first))
    assert len(keys) == 3
    assert all(os.sep not in key for key in keys)


def test_the_source_is_part_of_the_package():
    assert compiler.SOURCE.is_file()
    assert compiler.SOURCE.parent.name == "sparse"
