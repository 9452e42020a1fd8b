"""Callables timed in turn, so that drift of the machine cancels."""

import time
from collections.abc import Callable, Sequence


def in_turn(calls: Sequence[Callable[[], object]], rounds: int, turn: float = 0.0) -> list[list[float]]:
    """Seconds of each call in each round, all called one after the other; a round before that fills caches.

    Args:
        turn: seconds in which a call is repeated before it is the next one's turn; the mean of its repetitions counts.
            A call shorter than that is first made once that doesn't count: it finds the caches as the others left
            them, not as it does when it is used again and again.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, took in zip(calls, times, strict=True):
            if took and took[-1] < turn:
                call()
            took.append(_repeated(call, turn))
    return [took[1:] for took in times]


def _repeated(call: Callable[[], object], seconds: float) -> float:
    """Mean seconds of a call that is repeated until so much time has passed, once at least."""
    count, start = 0, time.perf_counter()
    while True:
        call()
        count += 1
        passed = time.perf_counter() - start
        if passed >= seconds:
            return passed / count
