"""Interleaved timing of callables."""

from runner.compaction.sparse import timing


class Clock:
    """A clock that advances only when a call says so, with a log of the calls in order."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, ""

    def call(self, name: str, cold: float, warm: float):
        """Return a callable that takes longer if another one was called before it."""

        def run() -> None:
            self.now += warm if self.log.endswith(name) else cold
            self.log += name

        return run


def test_a_call_is_repeated_until_its_turn_is_over_and_found_warm(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    times = timing.in_turn([clock.call("a", 8.0, 1.0), clock.call("b", 8.0, 4.0)], rounds=2, turn=3.0)
    assert times == [[8.0, 8.0], [8.0, 8.0]], "longer than its turn: once, as it was found"
    clock.log = ""
    times = timing.in_turn([clock.call("a", 2.0, 1.0), clock.call("b", 8.0, 4.0)], rounds=3, turn=3.0)
    assert times[0] == [1.0, 1.0, 1.0], "after the first round it is called once before its turn counts"
    assert clock.log == "aab" + "aaaab" * 3


def test_single_calls_in_turn(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    assert timing.in_turn([clock.call("a", 2.0, 1.0), clock.call("b", 8.0, 4.0)], rounds=2) == [[2.0, 2.0], [8.0, 8.0]]
    assert clock.log == "ab" * 3
