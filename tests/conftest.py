"""Settings that must be made before torch is imported, and fixtures that apply to all tests."""

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
import yaml

from runner.config.paths import CONF
from runner.files import write_bytes

# Tests run in parallel; two processes with two threads each on two cores would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# The time of an example depends more on the load of the machine than on the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Restore the log's configuration: commands detach the log from the terminal permanently."""
    log = logging.getLogger("runner")
    log.propagate = True
    log.setLevel(logging.NOTSET)
    yield


@pytest.fixture(scope="session")
def dropout_of() -> Callable[[str], dict[str, Any]]:
    """A dropout's part of a configuration, read from its file: composing a whole one takes as long as a tiny training.

    tests/test_learning.py composes each.
    """

    def read(name: str) -> dict[str, Any]:
        return {"name": name, **yaml.safe_load((CONF / "dropout" / f"{name}.yaml").read_text())}

    return read


@pytest.fixture
def drawn() -> None:
    """For a test that looks at figures."""


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the files of all figures empty in a module's tests, except in those that need `drawn`."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *args, **options: None)


@pytest.fixture(autouse=True)
def figures_of_sweeps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write empty files instead of figures, because drawing one takes as long as the rest of a tiny run."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("runner.reporting.curves.pruning_figure", lambda run: write_bytes(run.pruning_figure, b""))
