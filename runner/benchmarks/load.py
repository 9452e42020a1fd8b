"""The load caused by other processes during a measurement."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

# A measurement above these limits gets a warning: a tenth of a core, a tenth of the median.
OTHERS = 0.1
SPREAD = 0.1


@dataclass(frozen=True)
class Usage:
    """Clock readings at one point in time.

    Args:
        wall: the wall-clock time in seconds.
        own: the core-seconds used by all threads of this process.
        everyone: the core-seconds used by all processes, including those that a hypervisor gave to other machines, or
            None if the system does not report them.
        load: the load average over the last minute.
        cores: the number of cores of the machine.
    """

    wall: float
    own: float
    everyone: float | None
    load: float
    cores: int


def usage(stat: Path = Path("/proc/stat")) -> Usage:
    """Read the clocks."""
    everyone, cores = _everyone(stat)
    return Usage(time.monotonic(), time.process_time(), everyone, os.getloadavg()[0], cores or os.cpu_count() or 1)


def _everyone(stat: Path) -> tuple[float | None, int]:
    """Return the busy core-seconds and the number of cores, or (None, 0) if the system has no such file."""
    try:
        lines = [line.split() for line in stat.read_text().splitlines() if line.startswith("cpu")]
    except OSError:
        return None, 0
    # proc(5): user nice system idle iowait irq softirq steal; user includes guests.
    user, nice, system, _, _, irq, softirq, steal = (int(word) for word in lines[0][1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), len(lines) - 1


def others(before: Usage, after: Usage, threads: int) -> float:
    """Return the average number of cores used by other processes between two readings.

    If the system does not report core-seconds, this is the load average minus `threads`.
    """
    if before.everyone is None or after.everyone is None:
        # Each computing thread adds one to the load average.
        return max(0.0, after.load - threads)
    busy = (after.everyone - before.everyone) - (after.own - before.own)
    return max(0.0, busy / max(after.wall - before.wall, 1e-9))


def warning(busy: float, spread: float, threads: int, cores: int) -> str | None:
    """Return a one-line warning if the figures are unreliable, otherwise None.

    Args:
        busy: the number of cores used by other processes.
        spread: the spread of the repeats, divided by their median.
        threads: the number of threads of this process. Other processes may use the remaining cores.
        cores: the number of cores of the machine.
    """
    crowded = busy > max(0, cores - threads) + OTHERS
    if not crowded and spread <= SPREAD:
        return None
    said = []
    if crowded:
        said.append(f"other processes kept {busy:.1f} of {cores} cores busy")
    if spread > SPREAD:
        said.append(f"repeats spread by {spread:.0%}")
    return f"warning: {' and '.join(said)}; absolute figures are unreliable, ratios approximate; use an idle machine"
