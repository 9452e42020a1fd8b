"""The number of processors available to this process."""

import os


def cores() -> int:
    """Return the number of processors that this process may use; on macOS, the number of processors of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_one_of_several() -> bool:
    """Whether this process is one of several that torchrun or `run train processes=N` started for one training."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
