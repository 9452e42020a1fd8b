"""Train several runs in parallel processes. A line is printed as each one ends, and one Ctrl-C ends them all."""

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
    """Train and sweep one run. If it fails, record the error in its folder and return a line that describes it."""
    from runner.running import execute

    return failure_of(lambda: execute(job, words, foreign))


def failure_of(work: Callable[[], object]) -> str | None:
    """Call `work` and return None, or a line that describes the error if it fails."""
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
    """Train and sweep runs in parallel. See `side_by_side` for return values and errors.

    Args:
        jobs: the configurations.
        words: the options on the command line, for each job.
        labels: the label of each job in the output.
        foreign: whether the configurations may name classes outside this package.
        workers: the number of processes.
    """
    return side_by_side(train_one, list(zip(jobs, words, repeat(foreign), strict=False)), labels, workers)


def side_by_side(
    work: Callable[..., str | None], calls: Sequence[Sequence[Any]], labels: Sequence[str], workers: int
) -> list[str | None]:
    """Call a function in parallel processes, once for each set of arguments.

    Args:
        work: a module-level function that returns None, or a line that describes the error.
        calls: the arguments of each call.
        labels: the label of each call in the output.
        workers: the number of processes.

    Returns:
        the return value of `work` for each call.

    Raises:
        UserError: a process was killed.
        Interrupted: the user pressed Ctrl-C.
    """
    workers = min(workers, len(calls))
    share_cores(workers)
    print(f"{len(calls)} runs, {workers} at a time; one line for each when it ends", flush=True)
    failures: list[str | None] = [None] * len(calls)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), begin_worker)
    with _ended(pool):
        with _interrupts_held_back():  # the workers inherit this and never receive Ctrl-C: their parent ends them
            futures = {pool.submit(_timed, work, *one): index for index, one in enumerate(calls)}
        for done, future in enumerate(as_completed(futures), 1):
            index = futures[future]
            failures[index], seconds = future.result()
            state = "failed" if failures[index] else "finished"
            print(f"[{done}/{len(calls)}] {state:8}  {labels[index]}  ({duration(seconds)})", flush=True)
    return failures


def worker_count(asked: int) -> int:
    """Return the number of workers. As in joblib, -1 means one per core, and -2 one fewer."""
    return asked if asked > 0 else max(1, cores() + 1 + asked)


def share_cores(workers: int) -> None:
    """Give every worker an equal share of the cores, through environment variables read when torch is imported.

    Variables that are already set are kept. Two jobs with two threads each on two cores take three times as long as
    with one thread each.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = os.environ.get(name) or str(max(1, cores() // workers))


def _timed(work: Callable[..., str | None], *arguments: Any) -> tuple[str | None, float]:
    began = time.monotonic()
    return work(*arguments), time.monotonic() - began


@contextmanager
def _ended(pool: ProcessPoolExecutor) -> Iterator[None]:
    """End the pool's processes on exit, even after an error. Runs that this interrupts can resume from a checkpoint."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual:
        signal.signal(signal.SIGINT, _interrupt_once)
    try:
        yield
    except KeyboardInterrupt:
        for process in active_children():
            process.terminate()
        raise Interrupted("the same command continues with the missing runs") from None
    except BrokenProcessPool:
        raise UserError(
            "a training was killed, perhaps by the system for its memory; the same command continues with the "
            "missing runs; train fewer at a time if this happens again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        if usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt_once(*_: object) -> None:
    """Raise KeyboardInterrupt and ignore further Ctrl-C, which would leave processes and semaphores behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Defer Ctrl-C until the end of the context."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_worker() -> None:
    """Prepare a worker process to end with its parent and leave nothing behind."""
    # tqdm's default lock works across processes: a semaphore, which remains when its process is ended.
    tqdm.set_lock(threading.RLock())
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
