"""Composed configurations, each composed only once."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import pytest

from runner.config.compose import Composer

Compose = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def compose() -> Compose:
    """Compose and check `run train` with the given words, and cache the result."""
    composed = cache(lambda words: Composer("train").single(words))
    return lambda *words: deepcopy(composed(words))
