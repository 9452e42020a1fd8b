"""Settings that must stand before torch is imported, and what no test may leave behind."""

import logging
import os
from collections.abc import Iterator

import hypothesis
import pytest

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
