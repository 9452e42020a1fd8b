"""Run kernels in threads; ctypes releases the interpreter lock during calls."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

_pools: dict[int, ThreadPoolExecutor] = {}


def in_threads(work: Callable[[int, int], None], ends: Sequence[int]) -> None:
    """Call work(first, last) for the parts with the given ends. The first part runs in the calling thread."""
    parts = list(zip([0, *ends[:-1]], ends, strict=True))
    waiting = [_pool().submit(work, *part) for part in parts[1:]]
    work(*parts[0])
    for part in waiting:
        part.result()


def shares(count: int, threads: int, step: int = 1) -> list[int]:
    """Divide range(count) among threads and return the end of each part. All but the last are multiples of `step`."""
    share = -(-count // max(1, threads))
    share = max(1, -(-share // step)) * step
    return [min(count, end) for end in range(share, count + share, share)]


def _pool() -> ThreadPoolExecutor:
    """Return this process's thread pool; a forked process doesn't inherit its parent's threads."""
    process = os.getpid()
    if process not in _pools:
        _pools.clear()
        _pools[process] = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="sparse")
    return _pools[process]
