"""Interleaved timing of two alternatives."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from runner.benchmarks import load
from runner.benchmarks.intervals import median_interval, spread

WARM_UP = 3  # untimed calls of each, in which primitives are chosen and memory is mapped


@dataclass(frozen=True)
class Comparison:
    """Two alternatives that can be called repeatedly, and the target for their ratio.

    Args:
        name, against: descriptions of `a` and `b`.
        a, b: the callables.
        target: the ratio to reach. None means no target.
        higher_is_better: whether to compare speeds (a's divided by b's) instead of times.
        work: the amount of work per call of `a` and of `b`, in `unit`.
        unit: the unit of work: calls, images, tokens, FLOP.
    """

    name: str
    against: str
    a: Callable[[], object]
    b: Callable[[], object]
    target: float | None = None
    higher_is_better: bool = False
    work: tuple[float, float] = (1.0, 1.0)
    unit: str = "calls"


@dataclass(frozen=True)
class Result:
    """The result of a comparison.

    Args:
        ratio, low, high: the median of the pairs' ratios and its 95 % interval.
        pairs: the number of pairs.
        seconds: the median times of one call of `a` and of `b`, in seconds.
        spread: the spread of the times divided by their median, for `a` or `b`, whichever is larger.
        others: the average number of cores used by other processes.
    """

    name: str
    against: str
    target: float | None
    higher_is_better: bool
    work: tuple[float, float]
    unit: str
    ratio: float
    low: float
    high: float
    pairs: int
    seconds: tuple[float, float]
    spread: float
    others: float

    @property
    def rates(self) -> tuple[float, float]:
        """Units of work per second for `a` and `b`."""
        return self.work[0] / self.seconds[0], self.work[1] / self.seconds[1]

    @property
    def reached(self) -> str:
        """Whether the interval reaches the target: "yes", "no", "open" if only part of it does, "" without a target."""
        if self.target is None:
            return ""
        good = [value >= self.target if self.higher_is_better else value <= self.target for value in self.interval]
        return "yes" if all(good) else "open" if any(good) else "no"

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Stopwatch:
    """A stopwatch for work on a device.

    Args:
        threads: the number of threads that this process uses.
        synchronize: waits for the device to finish its work.
        clock: returns the time in seconds.
        usage: reads the machine's clocks.
    """

    threads: int
    synchronize: Callable[[], object] = lambda: None
    clock: Callable[[], float] = time.perf_counter
    usage: Callable[[], load.Usage] = load.usage

    def seconds(self, work: Callable[[], object]) -> float:
        """Run the work and return its duration in seconds."""
        self.synchronize()
        start = self.clock()
        work()
        self.synchronize()
        return self.clock() - start


def measure(
    comparison: Comparison, pairs: int, stopwatch: Stopwatch, advance: Callable[[], object] = lambda: None
) -> Result:
    """Time `a` and `b` of a comparison in an interleaved order, after a warm-up.

    The order alternates from pair to pair, a b b a a b …, so that a machine that gets steadily slower affects both
    equally.

    Args:
        comparison: the comparison.
        pairs: the number of pairs, at least `intervals.FEWEST`.
        stopwatch: the stopwatch.
        advance: called after every pair.
    """
    for _ in range(WARM_UP):
        comparison.a()
        comparison.b()
    times_a, times_b = [], []
    before = stopwatch.usage()
    for pair in range(pairs):
        if pair % 2 == 0:
            times_a.append(stopwatch.seconds(comparison.a))
            times_b.append(stopwatch.seconds(comparison.b))
        else:
            times_b.append(stopwatch.seconds(comparison.b))
            times_a.append(stopwatch.seconds(comparison.a))
        advance()
    busy = load.others(before, stopwatch.usage(), stopwatch.threads)
    ratios = [_ratio(comparison, a, b) for a, b in zip(times_a, times_b, strict=True)]
    low, high = median_interval(ratios)
    return Result(
        name=comparison.name,
        against=comparison.against,
        target=comparison.target,
        higher_is_better=comparison.higher_is_better,
        work=comparison.work,
        unit=comparison.unit,
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        pairs=pairs,
        seconds=(statistics.median(times_a), statistics.median(times_b)),
        spread=max(spread(times_a), spread(times_b)),
        others=busy,
    )


def _ratio(comparison: Comparison, a: float, b: float) -> float:
    """Return the ratio of the speeds or of the times per unit of work."""
    times = (a / comparison.work[0]) / (b / comparison.work[1])
    return 1 / times if comparison.higher_is_better else times
