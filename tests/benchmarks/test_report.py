import pytest

from runner.benchmarks.report import COLUMNS, csv_row, table
from runner.benchmarks.timing import Result

MACHINE = {
    "date": "2026-01-02T03:04:05+0000",
    "machine": "A Processor",
    "device": "cpu",
    "threads": 2,
    "precision": "bf16",
    "torch": "2.13.0",
    "model": "resnet32",
    "batch_size": 128,
}
STEP = Result(
    name="step, targeted",
    against="step, none",
    target=1.05,
    higher_is_better=False,
    work=(1.0, 1.0),
    unit="calls",
    ratio=1.0312345,
    low=1.02,
    high=1.04,
    pairs=30,
    seconds=(0.5156, 0.5),
    spread=0.02,
    others=0.01,
)
SHARE = Result(
    name="step, none",
    against="bf16 matrix product, 2048",
    target=None,
    higher_is_better=True,
    work=(86e9, 100e9),
    unit="FLOP",
    ratio=0.86,
    low=0.85,
    high=0.87,
    pairs=30,
    seconds=(1.0, 1.0),
    spread=0.02,
    others=0.01,
)


def test_a_csv_row_has_every_column_and_the_machine():
    row = csv_row(STEP, MACHINE)
    assert list(row) == list(COLUMNS)
    assert MACHINE.items() <= row.items()
    assert (row["what"], row["against"], row["pairs"], row["reached"]) == ("step, targeted", "step, none", 30, "yes")
    assert (row["ratio"], row["low"], row["high"], row["target"]) == (1.03123, 1.02, 1.04, 1.05)
    assert (row["seconds"], row["against_seconds"]) == (0.5156, 0.5)


def test_speeds_are_in_units_a_second():
    row = csv_row(SHARE, MACHINE)
    assert (row["unit"], row["rate"], row["against_rate"]) == ("FLOP", 86e9, 100e9)
    assert row["target"] is None


def test_the_table():
    head, step, share, blank, note = table([STEP, SHARE], MACHINE).splitlines()
    assert head.split("  ")[0] == "what"
    assert "here*" in head
    assert " ".join(step.split()) == "step, targeted step, none 1.031 1.020 to 1.040 ≤ 1.05 yes 30 516 ms 500 ms"
    assert share.split()[-4:] == ["86", "GFLOP/s", "100", "GFLOP/s"]
    assert "0.860  0.850 to 0.870       –        –     30" in share
    assert len(head) == len(step) == len(share)
    assert blank == ""
    assert note.startswith("*")
    assert "A Processor, 2 threads, bf16, torch 2.13.0" in note


@pytest.mark.parametrize(
    ("images", "seconds", "shown"), [(128, 0.5, "256 images/s"), (128, 20.0, "6.4 images/s"), (128, 1e-5, "12.8 Mi")]
)
def test_speeds_have_three_digits(images, seconds, shown):
    fields = {**vars(SHARE), "unit": "images", "work": (images, images), "seconds": (seconds, seconds)}
    assert shown in table([Result(**fields)], MACHINE)
