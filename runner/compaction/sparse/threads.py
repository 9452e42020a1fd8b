"""Threads in which kernels run; ctypes releases the interpreter lock meanwhile."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

_pools: dict[int, ThreadPoolExecutor] = {}


def in_threads(work: Callable[[int, int], None], ends: Sequence[int]) -> None:
    """Call work(first, last) for the parts with these ends, the first part in this thread."""
    parts = list(zip([0, *ends[:-1]], ends, strict=True))
    waiting = [_pool().submit(work, *part) for part in parts[1:]]
    work(*parts[0])
    for part in waiting:
        part.result()


def shares(count: int, threads: int, step: int = 1) -> list[int]:
    """Return the end of each thread's part of 0 … count; all but the last are multiples of `step`."""
    share = -(-count // max(1, threads))
    share = max(1, -(-share // step)) * step
    return [min(count, end) for end in range(share, count + share, share)]


def _pool() -> ThreadPoolExecutor:
    """Return threads of this process, because a forked process has none of its parent's."""
    process = os.getpid()
    if process not in _pools:
        _pools.clear()
        _pools[process] = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="sparse")
    return _pools[process]
