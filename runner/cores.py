"""How many processors there are for this process."""

import os


def cores() -> int:
    """How many processors this process may use; macOS tells only how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
