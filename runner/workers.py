"""Trainings side by side, each in a process of its own: a line as each ends, and one Ctrl-C that ends them all."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import repeat
from multiprocessing import active_children, connection, get_context, parent_process
from typing import Any

from tqdm import tqdm

from runner.cores import cores
from runner.errors import Interrupted, UserError, located
from runner.reporting.formats import duration

Job = Mapping[str, Any]


def train_one(job: Job, words: Sequence[str], foreign: bool) -> str | None:
    """Train and sweep one run; a line about what went wrong, which its folder keeps too."""
    from runner.running import execute

    return failure_of(lambda: execute(job, words, foreign))


def failure_of(work: Callable[[], object]) -> str | None:
    """Do it; a line about what went wrong, if anything did."""
    try:
        work()
    except UserError as error:
        return str(error)
    except Exception as error:
        return f"{located(error)} (see run.log in the run's folder)"
    return None


def train_side_by_side(
    jobs: Sequence[Job], words: Sequence[Sequence[str]], labels: Sequence[str], foreign: bool, workers: int
) -> list[str | None]:
    """Train and sweep runs in so many processes; what went wrong with each, and errors, as `side_by_side`.

    Args:
        words: of the command line, for each job.
        labels: what the line of each job says.
        foreign: whether classes outside this package may be named.
    """
    return side_by_side(train_one, list(zip(jobs, words, repeat(foreign), strict=False)), labels, workers)


def side_by_side(
    work: Callable[..., str | None], calls: Sequence[Sequence[Any]], labels: Sequence[str], workers: int
) -> list[str | None]:
    """Call a function in so many processes; what each call gives back: what went wrong.

    Args:
        work: a function of a module.
        calls: its arguments, for each call.
        labels: what the line of each says.

    Raises:
        UserError: a process was killed.
        Interrupted: by Ctrl-C.
    """
    workers = min(workers, len(calls))
    share_cores(workers)
    print(f"{len(calls)} runs, {workers} at a time; a line for each as it ends", flush=True)
    failures: list[str | None] = [None] * len(calls)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), begin_worker)
    with _ended(pool):
        with _interrupts_held_back():  # and never given to the workers, which inherit that: their parent ends them
            futures = {pool.submit(_timed, work, *one): index for index, one in enumerate(calls)}
        for done, future in enumerate(as_completed(futures), 1):
            index = futures[future]
            failures[index], seconds = future.result()
            state = "failed" if failures[index] else "finished"
            print(f"[{done}/{len(calls)}] {state:8}  {labels[index]}  ({duration(seconds)})", flush=True)
    return failures


def worker_count(asked: int) -> int:
    """-1 is a worker a core, -2 one less, as joblib counts."""
    return asked if asked > 0 else max(1, cores() + 1 + asked)


def share_cores(workers: int) -> None:
    """Give every worker its share of the cores: it reads this when it imports torch. Two jobs with two threads each on
    two cores take three times as long as with one each."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = os.environ.get(name) or str(max(1, cores() // workers))


def _timed(work: Callable[..., str | None], *arguments: Any) -> tuple[str | None, float]:
    began = time.monotonic()
    return work(*arguments), time.monotonic() - began


@contextmanager
def _ended(pool: ProcessPoolExecutor) -> Iterator[None]:
    """End the pool's processes whatever happens; a training that is ended can go on from its checkpoint."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual:
        signal.signal(signal.SIGINT, _interrupt_once)
    try:
        yield
    except KeyboardInterrupt:
        for process in active_children():
            process.terminate()
        raise Interrupted("the same command goes on with what is missing") from None
    except BrokenProcessPool:
        raise UserError(
            "a training was killed, perhaps by the system for its memory; the same command goes on with what is "
            "missing, with fewer at a time if need be"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        if usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt_once(*_: object) -> None:
    """Ctrl-C pressed again while the processes end would leave them and their semaphores behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait until the context ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_worker() -> None:
    """In a worker: don't outlive a parent that was killed, and leave nothing behind when ended."""
    # tqdm's own lock is for several processes: a semaphore that nobody clears away once its process is ended.
    tqdm.set_lock(threading.RLock())
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
