"""Time callables in interleaved rounds, so that drift of the machine cancels out."""

import time
from collections.abc import Callable, Sequence


def in_turn(calls: Sequence[Callable[[], object]], rounds: int, turn: float = 0.0) -> list[list[float]]:
    """Return the time of each call in each round, in seconds.

    Each round times every call once. An additional first round is for warming up.

    Args:
        turn: seconds for which a call is repeated before the next call is timed; the result is the mean of the
            repetitions. A call that takes less than that is first made once without being timed, because the other
            calls have changed the content of the caches.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, took in zip(calls, times, strict=True):
            if took and took[-1] < turn:
                call()
            took.append(_repeated(call, turn))
    return [took[1:] for took in times]


def _repeated(call: Callable[[], object], seconds: float) -> float:
    """Return the mean time of a call in seconds. It is repeated until `seconds` have passed, and made at least once."""
    count, start = 0, time.perf_counter()
    while True:
        call()
        count += 1
        passed = time.perf_counter() - start
        if passed >= seconds:
            return passed / count
