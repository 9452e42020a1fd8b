import os

import pytest

from runner.benchmarks.load import Usage, others, usage, warning

STAT = """\
cpu  100 20 30 4000 500 6 7 8 90 0
cpu0 50 10 15 2000 250 3 3 4 45 0
cpu1 50 10 15 2000 250 3 4 4 45 0
intr 1 2 3
"""


def at(wall, own, everyone, load=0.0):
    return Usage(wall, own, everyone, load, cores=2)


def test_usage_counts_busy_time_but_not_idle_waiting_or_guests_twice(tmp_path):
    (tmp_path / "stat").write_text(STAT)
    now = usage(tmp_path / "stat")
    assert now.everyone == pytest.approx((100 + 20 + 30 + 6 + 7 + 8) / os.sysconf("SC_CLK_TCK"))
    assert now.cores == 2


def test_usage_without_proc(tmp_path):
    now = usage(tmp_path / "none")
    assert now.everyone is None
    assert now.cores == os.cpu_count()


def test_own_time_grows_with_own_work():
    before = usage()
    sum(i * i for i in range(200_000))
    after = usage()
    assert 0 < after.own - before.own <= 1.1 * (after.wall - before.wall)


def test_others_are_all_but_own():
    assert others(at(100, 5, 50), at(110, 25, 85), threads=2) == pytest.approx(1.5)


def test_others_are_never_negative():
    assert others(at(100, 5, 50), at(110, 25, 69.9), threads=2) == 0


def test_others_by_the_load_average_where_there_is_no_proc():
    assert others(at(0, 0, None, load=1.0), at(10, 20, None, load=3.2), threads=2) == pytest.approx(1.2)
    assert others(at(0, 0, None), at(10, 20, None, load=1.0), threads=2) == 0


def test_a_quiet_machine_gets_no_warning():
    assert warning(0.05, 0.03, threads=2, cores=2) is None


def test_others_on_cores_that_are_free_get_no_warning():
    assert warning(1.0, 0.03, threads=2, cores=8) is None
    assert warning(6.5, 0.03, threads=2, cores=8) is not None


def test_a_loaded_machine_gets_one_line():
    line = warning(0.8, 0.03, threads=2, cores=2)
    assert line.startswith("warning: other processes kept 0.8 of 2 cores busy;")
    assert "\n" not in line


def test_repeats_that_differ_get_one_line():
    line = warning(0.0, 0.35, threads=2, cores=2)
    assert "repeats spread by 35%" in line
    assert "other processes" not in line


def test_both_share_a_line():
    line = warning(0.8, 0.35, threads=2, cores=2)
    assert "0.8 of 2 cores" in line
    assert "35%" in line
    assert "\n" not in line
