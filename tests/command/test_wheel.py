"""The package installed from a wheel, in another folder, without the checkout."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import __version__
from runner.config.compose import CONF
from runner.runs import find_runs

CHECKOUT = Path(__file__).resolve().parents[2]
WHERE = "import runner.config.compose as c, runner; print(runner.__file__); print(c.CONF)"


def output(*words: str | Path, cwd: Path, **environment: str) -> str:
    # Exclude this folder and everything else that this process can import.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(words, cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Install a wheel of this checkout, and return the folder."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, CHECKOUT]
    output(*build, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    install = ["--no-deps", "--no-index", "--quiet", "--no-compile", "--target", folder / "site", wheel]
    output(sys.executable, "-m", "pip", "install", *install, cwd=folder)
    return folder / "site"


@pytest.fixture(scope="module")
def python(installed) -> Callable[..., str]:
    """Run Python with the wheel, which precedes the checkout, and with the installed dependencies."""

    def run(*words: str | Path, cwd: Path) -> str:
        return output(sys.executable, *words, cwd=cwd, PYTHONPATH=str(installed), OMP_NUM_THREADS="1")

    return run


def test_brings_its_configuration(installed, python, tmp_path):
    module, conf = python("-c", WHERE, cwd=tmp_path).split()
    assert Path(module) == installed / "runner" / "__init__.py"
    assert Path(conf) == installed / "runner" / "conf"
    here = {path.relative_to(CONF): path.read_text() for path in CONF.rglob("*.yaml")}
    there = {path.relative_to(conf): path.read_text() for path in Path(conf).rglob("*.yaml")}
    assert here and there == here


def test_brings_all_that_the_package_reads(installed):
    here = {path.relative_to(CHECKOUT) for path in (CHECKOUT / "runner").rglob("*") if "__pycache__" not in path.parts}
    assert {path for path in here if not (installed / path).exists()} == set()


@pytest.mark.slow
def test_lists_trains_and_leaves_its_own_folder_alone(installed, python, tmp_path):
    before = {path for path in installed.rglob("*") if "__pycache__" not in path.parts}
    assert "  targeted " in python("-m", "runner", "list", "dropout", cwd=tmp_path)
    words = ("debug=smoke", "model.blocks=1", "prune.sparsities=[0.5]", "dropout=targeted")
    out = python("-m", "runner", "train", *words, cwd=tmp_path)
    (run,) = find_runs([tmp_path / "outputs"])
    assert run.state() == "finished"
    assert run.status()["git"] is None, "a wheel is of no checkout"
    assert out.splitlines()[-1] == str(run.folder.relative_to(tmp_path))
    assert {path for path in installed.rglob("*") if "__pycache__" not in path.parts} == before


def test_there_is_the_command(installed, python, tmp_path):
    """The script that pip creates from the wheel's entry point."""
    assert python(installed / "bin" / "run", "--version", cwd=tmp_path) == f"run {__version__}\n"


def test_says_what_it_is(installed):
    (folder,) = installed.glob("*.dist-info")
    metadata = (folder / "METADATA").read_text()
    for line in ("Name: prune-runner", f"Version: {__version__}", "License-Expression: MIT", "Author: the run authors"):
        assert f"\n{line}\n" in metadata
    assert (folder / "licenses" / "LICENSE").read_text().startswith("MIT License")
    assert (installed / "runner" / "py.typed").exists()
