"""Threads that kernels run in: ctypes lets go of the interpreter's lock while one does."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

_pools: dict[int, ThreadPoolExecutor] = {}


def in_threads(work: Callable[[int, int], None], ends: Sequence[int]) -> None:
    """work(first, last) for the parts that end there, the first one in this thread."""
    parts = list(zip([0, *ends[:-1]], ends, strict=True))
    waiting = [_pool().submit(work, *part) for part in parts[1:]]
    work(*parts[0])
    for part in waiting:
        part.result()


def shares(count: int, threads: int, step: int = 1) -> list[int]:
    """Where each thread's part of 0 … count ends, at multiples of `step` but for the last."""
    share = -(-count // max(1, threads))
    share = max(1, -(-share // step)) * step
    return [min(count, end) for end in range(share, count + share, share)]


def _pool() -> ThreadPoolExecutor:
    """Threads of this process: a forked one has none of its parent's."""
    process = os.getpid()
    if process not in _pools:
        _pools.clear()
        _pools[process] = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="sparse")
    return _pools[process]
