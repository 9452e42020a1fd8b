"""What else kept the machine busy while something was measured."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

# Above these a measurement deserves its warning: a tenth of a core, a tenth of the median.
OTHERS = 0.1
SPREAD = 0.1


@dataclass(frozen=True)
class Usage:
    """Clocks at one moment.

    Args:
        wall: seconds.
        own: core-seconds of this process so far, all its threads.
        everyone: core-seconds of all processes, and those that a hypervisor gave to others; None where the system
            doesn't say.
        load: the load average over the last minute.
        cores: of the machine.
    """

    wall: float
    own: float
    everyone: float | None
    load: float
    cores: int


def usage(stat: Path = Path("/proc/stat")) -> Usage:
    """Now."""
    everyone, cores = _everyone(stat)
    return Usage(time.monotonic(), time.process_time(), everyone, os.getloadavg()[0], cores or os.cpu_count() or 1)


def _everyone(stat: Path) -> tuple[float | None, int]:
    """Busy core-seconds and the number of cores; (None, 0) where the system has no such file."""
    try:
        lines = [line.split() for line in stat.read_text().splitlines() if line.startswith("cpu")]
    except OSError:
        return None, 0
    # proc(5): user nice system idle iowait irq softirq steal; guests are in user already.
    user, nice, system, _, _, irq, softirq, steal = (int(word) for word in lines[0][1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), len(lines) - 1


def others(before: Usage, after: Usage, threads: int) -> float:
    """How many cores other processes kept busy between the two, on average."""
    if before.everyone is None or after.everyone is None:
        # A thread that computes adds one to the load average.
        return max(0.0, after.load - threads)
    busy = (after.everyone - before.everyone) - (after.own - before.own)
    return max(0.0, busy / max(after.wall - before.wall, 1e-9))


def warning(busy: float, spread: float, threads: int, cores: int) -> str | None:
    """One line if the figures are in doubt.

    Args:
        busy: cores that others used.
        spread: of the repeats, over their median.
        threads: that this process computes with; cores beyond them are free for others to use.
    """
    crowded = busy > max(0, cores - threads) + OTHERS
    if not crowded and spread <= SPREAD:
        return None
    said = []
    if crowded:
        said.append(f"other processes kept {busy:.1f} of {cores} cores busy")
    if spread > SPREAD:
        said.append(f"repeats spread by {spread:.0%}")
    return (
        f"warning: {' and '.join(said)}; absolute figures don't hold, ratios only roughly: measure on a quiet machine"
    )
