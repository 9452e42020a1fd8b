"""The number of processors available to this process."""

import os


def cores() -> int:
    """Return the number of processors that this process may use. On macOS, this is the number in the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_one_of_several() -> bool:
    """Return whether torchrun or `run train processes=N` started this process as one of several that train one run."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
