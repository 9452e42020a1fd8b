from dataclasses import replace

import pytest

from runner.benchmarks.load import Usage
from runner.benchmarks.timing import WARM_UP, Comparison, Stopwatch, measure


class Machine:
    """A clock that advances only with work; `slower` seconds are added per second of work as time passes."""

    def __init__(self, drift=0.0, others=0.0):
        self.now, self.drift, self.others, self.calls, self.waits = 0.0, drift, others, [], 0

    def work(self, name, seconds):
        def do():
            self.calls.append(name)
            self.now += seconds * (1 + self.drift * len(self.calls))

        return do

    def wait(self):
        self.waits += 1

    def usage(self):
        return Usage(self.now, self.now, self.now * (1 + self.others), load=0.0, cores=2)

    def stopwatch(self):
        return Stopwatch(2, self.wait, lambda: self.now, self.usage)

    def comparison(self, a=2.0, b=1.0, **more):
        return Comparison("this", "that", self.work("a", a), self.work("b", b), **more)


def test_the_order_changes_from_pair_to_pair():
    machine = Machine()
    measure(machine.comparison(), 6, machine.stopwatch())
    assert "".join(machine.calls) == "ab" * WARM_UP + "abbaabbaabba"


def test_a_ratio_of_times():
    machine = Machine()
    result = measure(machine.comparison(a=1.04, b=1.0, target=1.05), 6, machine.stopwatch())
    assert (result.ratio, result.low, result.high) == pytest.approx((1.04, 1.04, 1.04))
    assert result.seconds == pytest.approx((1.04, 1.0))
    assert result.pairs == 6
    assert result.reached == "yes"


def test_a_ratio_of_speeds():
    machine = Machine()
    asked = machine.comparison(a=2.0, b=1.0, higher_is_better=True, work=(30.0, 60.0), unit="images", target=0.95)
    result = measure(asked, 6, machine.stopwatch())
    assert result.rates == pytest.approx((15.0, 60.0))
    assert result.ratio == pytest.approx(0.25)
    assert result.reached == "no"


def test_steady_drift_cancels():
    # Each call is 1 % slower than the one before. If a always came before b, every pair would give 1 / 1.01 or less.
    machine = Machine(drift=0.01)
    result = measure(machine.comparison(a=1.0, b=1.0), 30, machine.stopwatch())
    assert result.ratio == pytest.approx(1.0, abs=2e-4)
    assert result.low < 1 < result.high


def test_warm_up_is_not_timed():
    machine = Machine()
    slow_start = iter([100.0] * WARM_UP + [1.0] * 6)
    slow = Comparison("this", "that", lambda: machine.work("a", next(slow_start))(), machine.work("b", 1.0))
    assert measure(slow, 6, machine.stopwatch()).seconds == pytest.approx((1.0, 1.0))


def test_the_device_is_waited_for_before_and_after_each():
    machine = Machine()
    measure(machine.comparison(), 6, machine.stopwatch())
    assert machine.waits == 2 * 2 * 6


def test_what_others_did_and_how_repeats_spread_is_kept():
    machine = Machine(others=0.5)
    assert measure(machine.comparison(), 6, machine.stopwatch()).others == pytest.approx(0.5)
    steady = measure(machine.comparison(), 6, machine.stopwatch())
    drifting = Machine(drift=1.0)
    assert steady.spread == pytest.approx(0)
    assert measure(drifting.comparison(), 6, drifting.stopwatch()).spread > 0.1


def test_progress_is_told_of_every_pair():
    machine, reports = Machine(), []
    measure(machine.comparison(), 7, machine.stopwatch(), lambda: reports.append(1))
    assert len(reports) == 7


@pytest.mark.parametrize(
    ("low", "high", "target", "higher_is_better", "reached"),
    [
        (1.01, 1.04, 1.05, False, "yes"),
        (1.04, 1.06, 1.05, False, "open"),
        (1.06, 1.09, 1.05, False, "no"),
        (0.96, 0.99, 0.95, True, "yes"),
        (0.94, 0.99, 0.95, True, "open"),
        (0.90, 0.94, 0.95, True, "no"),
        (0.90, 0.94, None, True, ""),
    ],
)
def test_the_whole_interval_decides(low, high, target, higher_is_better, reached):
    machine = Machine()
    result = measure(machine.comparison(), 6, machine.stopwatch())
    changed = replace(result, low=low, high=high, target=target, higher_is_better=higher_is_better)
    assert changed.reached == reached
