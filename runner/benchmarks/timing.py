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
        target: the ratio to reach; None means that there is no target.
        higher_is_better: whether the ratio is of speeds, a's over b's, rather than of times.
        work: the amount of work of one call of `a` and of `b`, in `unit`.
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
        seconds: the median seconds of a call of `a` and of one of `b`.
        spread: the larger of a's and b's spread of seconds, divided by the median.
        others: the average number of cores that other processes kept busy.
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
        """Units of work per second, of `a` and of `b`."""
        return self.work[0] / self.seconds[0], self.work[1] / self.seconds[1]

    @property
    def reached(self) -> str:
        """Whether the whole interval reaches the target: "yes", "no", or "open" if only part of it; "" without one."""
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
        synchronize: waits until the device has finished its work.
        clock: returns the time in seconds.
        usage: reads the machine's clocks.
    """

    threads: int
    synchronize: Callable[[], object] = lambda: None
    clock: Callable[[], float] = time.perf_counter
    usage: Callable[[], load.Usage] = load.usage

    def seconds(self, work: Callable[[], object]) -> float:
        """Return the seconds that the work takes."""
        self.synchronize()
        start = self.clock()
        work()
        self.synchronize()
        return self.clock() - start


def measure(
    comparison: Comparison, pairs: int, stopwatch: Stopwatch, advance: Callable[[], object] = lambda: None
) -> Result:
    """Time `a` and `b` of a comparison, interleaved, after a warm-up.

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
    """Return the ratio of the times per unit of work, or of the speeds."""
    times = (a / comparison.work[0]) / (b / comparison.work[1])
    return 1 / times if comparison.higher_is_better else times
