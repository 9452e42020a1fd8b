"""Composed configurations, each kind once."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import pytest

from runner.config.compose import Composer

Compose = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def compose() -> Compose:
    """Composes and checks `run train` with some words; a second time it is remembered."""
    composed = cache(lambda words: Composer("train").single(words))
    return lambda *words: deepcopy(composed(words))
