"""Settings that must stand before torch is imported, what no test may leave behind, and what most need not wait for."""

import logging
import os
from collections.abc import Iterator

import hypothesis
import pytest

from runner.files import write_bytes

# Tests run side by side; two processes with two threads each on two cores wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# How long an example takes says more about what else the machine does than about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Commands keep the log from the terminal, for good; a test of the log must see it whatever ran before."""
    log = logging.getLogger("runner")
    log.propagate = True
    log.setLevel(logging.NOTSET)
    yield


@pytest.fixture
def drawn() -> None:
    """For a test that looks at the figure that a sweep ends with."""


@pytest.fixture(autouse=True)
def figures_of_sweeps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty files in their place: drawing one takes as long as the rest of a tiny run."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("runner.reporting.curves.pruning_figure", lambda run: write_bytes(run.pruning_figure, b""))
