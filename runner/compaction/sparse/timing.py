"""Callables timed in turn, so that drift of the machine cancels."""

import time
from collections.abc import Callable, Sequence


def in_turn(calls: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Seconds of each call in each round, all called one after the other; a round before that fills caches."""
    times: list[list[float]] = [[] for _ in calls]
    for round_ in range(rounds + 1):
        for call, took in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if round_:
                took.append(time.perf_counter() - start)
    return times
