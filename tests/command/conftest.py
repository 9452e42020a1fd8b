"""The command, in a separate process and in this one, and the smallest possible runs."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.cli import main
from runner.files import read_rows
from runner.runs import TIMING_COLUMNS, Run

# The smallest run with all its parts: four steps of a narrow network of four layers, two points of a sweep.
TINY = (
    "debug=smoke",
    "model.blocks=1",
    "prune.sparsities=[0,0.5]",
    "prune.splits=[test]",
    "prune.batch_norm=[kept]",
)


@dataclass(frozen=True)
class Result:
    """The result of a command."""

    code: int
    out: str
    err: str


Call = Callable[..., Result]


@pytest.fixture
def tiny() -> tuple[str, ...]:
    return TINY


@pytest.fixture
def command(tmp_path: Path) -> Call:
    """Run the command in a separate process, in an empty folder."""

    def run(*words: str, cwd: Path = tmp_path, timeout: float = 250, **environment: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "runner", *words],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the command in the same way, as a terminal does: it receives Ctrl-C."""

    def start(*words: str, new_session: bool = False) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "runner", *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=new_session,
            # The parent of the tests may ignore Ctrl-C, as shells do for background processes.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return start


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command in this process, in an empty folder. Its exceptions are propagated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*words: str) -> Result:
        threads = torch.get_num_threads()
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        torch.set_num_threads(threads)
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def train(call: Call) -> Callable[..., Run]:
    """Train a tiny run, which must succeed, and return its folder as printed by the command."""

    def run(*words: str) -> Run:
        result = call("train", *TINY, *words)
        assert result.code == 0, result.err
        return Run(Path(result.out.splitlines()[-1]))

    return run


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of targeted dropout, shared by all tests, which must not change it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.raises(SystemExit) as ended:
        main(["train", *TINY, "dropout=targeted", f"folder={folder}"])
    assert ended.value.code == 0
    return Run(folder)


@pytest.fixture
def finished(finished_once: Run, tmp_path: Path) -> Run:
    """A copy of the finished run, which a test may change."""
    folder = tmp_path / "a run"
    shutil.copytree(finished_once.folder, folder)
    return Run(folder)


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    """Return all files below a folder, with their content."""

    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return files


# Eighteen steps in six epochs, in which the rates of ramping rise, and a sweep of twelve points.
LONGER = (
    *("debug=smoke", "model.blocks=1", "dropout=ramping", "schedule.length=18it"),
    *("data.validation=0.9", "schedule.batch_size=40"),  # three steps per epoch
    *("prune.sparsities=[0,0.9,0.99]", "prune.floor=0"),
)


@pytest.fixture(scope="session")
def longer() -> tuple[str, ...]:
    return LONGER


@pytest.fixture(scope="session")
def start() -> Callable[..., ForkServerProcess]:
    """Start the command in a process that has already imported most modules."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["runner.experiment", "runner.reporting.curves", "torch._dynamo"])

    def run(*words: str, **surroundings: Any) -> ForkServerProcess:
        process = context.Process(target=_in_a_new_process, args=(words,), kwargs=surroundings)
        process.start()
        return process

    return run


def _in_a_new_process(
    words: Sequence[str],
    folder: Path | None = None,
    out: Path | None = None,
    errors: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run the command in a folder, with its output and errors in files."""
    if folder:
        os.chdir(folder)
    for number, file in ((1, out), (2, errors)):
        if file:
            os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY), number)
    os.environ.update(environment or {})
    main(words)


@pytest.fixture(scope="session")
def left_alone(start: Callable[..., ForkServerProcess], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Train a run without interruption."""

    def train(*words: str) -> Run:
        folder = tmp_path_factory.mktemp("uninterrupted") / "run"
        process = start("train", *words, f"folder={folder}")
        process.join()
        assert process.exitcode == 0
        return Run(folder)

    return train


@pytest.fixture(scope="session")
def uninterrupted(left_alone: Callable[..., Run], longer: tuple[str, ...]) -> Run:
    """A run of `longer` that was not interrupted."""
    return left_alone(*longer)


@pytest.fixture
def same() -> Callable[[Run, Run], None]:
    """Assert that two runs have bitwise identical numbers, except for timing."""

    def check(run: Run, other: Run) -> None:
        assert run.state() == other.state() == "finished"
        assert untimed(run) == untimed(other)
        assert run.pruning_file.read_text() == other.pruning_file.read_text()
        assert run.weights_file.read_bytes() == other.weights_file.read_bytes()
        assert run.scores_file.read_bytes() == other.scores_file.read_bytes()

    def untimed(run: Run) -> list[dict[str, str]]:
        rows = read_rows(run.metrics_file)
        return [{name: value for name, value in row.items() if name not in TIMING_COLUMNS} for row in rows]

    return check
