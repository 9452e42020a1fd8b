"""How many processors there are for this process."""

import os


def cores() -> int:
    """How many processors this process may use; macOS tells only how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_one_of_several() -> bool:
    """Whether this process is one of those that torchrun, or `run train processes=N`, has started for one training."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
