"""Timing two things in turn."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from runner.benchmarks import load
from runner.benchmarks.intervals import median_interval, spread

WARM_UP = 3  # calls of each before the first timed one: primitives are chosen, memory is mapped


@dataclass(frozen=True)
class Comparison:
    """Two things that can be done again and again, and what their ratio should be.

    Args:
        name, against: what `a` and `b` do.
        a, b: do it once.
        target: the ratio to reach, or None where there is only something to show.
        higher_is_better: whether the ratio is of speeds, a's over b's, or of times.
        work: how much of `unit` a call of `a` and one of `b` get done.
        unit: what work is counted in: calls, images, tokens, FLOP.
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
    """What was measured.

    Args:
        ratio, low, high: the median of the pairs' ratios and its 95 % interval.
        seconds: median seconds of a call of `a` and of one of `b`.
        spread: of the seconds, over their median; the larger of a's and b's.
        others: cores that other processes kept busy meanwhile.
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
        """Units of work a second, of `a` and of `b`."""
        return self.work[0] / self.seconds[0], self.work[1] / self.seconds[1]

    @property
    def reached(self) -> str:
        """yes or no where the whole interval says so, else open; "" without a target."""
        if self.target is None:
            return ""
        good = [value >= self.target if self.higher_is_better else value <= self.target for value in self.interval]
        return "yes" if all(good) else "open" if any(good) else "no"

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Stopwatch:
    """How time is taken.

    Args:
        threads: that the process computes with.
        synchronize: waits until the device has done what it was told.
        clock: seconds.
        usage: reads the machine's clocks.
    """

    threads: int
    synchronize: Callable[[], object] = lambda: None
    clock: Callable[[], float] = time.perf_counter
    usage: Callable[[], load.Usage] = load.usage

    def seconds(self, work: Callable[[], object]) -> float:
        """How long the work takes."""
        self.synchronize()
        start = self.clock()
        work()
        self.synchronize()
        return self.clock() - start


def measure(
    comparison: Comparison, pairs: int, stopwatch: Stopwatch, advance: Callable[[], object] = lambda: None
) -> Result:
    """Time a and b in turn, `pairs` times after a warm-up.

    The order changes from pair to pair, a b b a a b …, so that a machine that gets steadily slower slows both alike.

    Args:
        pairs: at least `intervals.FEWEST`.
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
    """Of the times for one unit of work, or of the speeds."""
    times = (a / comparison.work[0]) / (b / comparison.work[1])
    return 1 / times if comparison.higher_is_better else times
