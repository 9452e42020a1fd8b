"""Which runs share a column, and the names of columns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.reporting.columns import column_names, common_title, same_but_seed, seed_groups, without_repeats
from runner.reporting.gather import Measured, gather
from runner.runs import Run

Make = Callable[..., Any]


def measured(*runs: Run) -> list[Measured]:
    return gather(runs, {})[0]


def names(*runs: Run) -> list[str]:
    columns = same_but_seed(measured(*runs))
    return column_names([column[0] for column in columns])


def test_seeds_share_a_column_and_so_do_devices_and_places(make_run: Make, row: Make) -> None:
    rows = [row(0, 0.9)]
    options = {"data.root": "/elsewhere", "device": "cuda:0", "outputs": "other", "prune": {"floor": 0}}
    runs = [
        make_run(rows, seed=0),
        make_run(rows, seed=1),
        make_run(rows, seed=2, **options),
    ]
    assert [[run.seed for run in column] for column in same_but_seed(measured(*runs))] == [[0, 1, 2]]
    assert names(*runs) == ["none"]


@pytest.mark.parametrize(
    "option",
    [
        {"data.validation": 0.2},
        {"schedule.length": "60ep"},
        {"schedule.learning_rate": 0.2},
        {"model.width": 0.5},
        {"model.widths": [1, 2, 3]},
        {"task.label_smoothing": 0.1},
        {"dropout.alpha": 0.5},
        {"precision": "bf16"},
        {"compile": True},
        {"content": "another corpus"},
    ],
    ids=lambda option: next(iter(option)),
)
def test_different_runs_never_share_a_column_or_a_name(make_run: Make, row: Make, option: dict[str, object]) -> None:
    rows = [row(0, 0.9)]
    runs = make_run(rows, "targeted"), make_run(rows, "targeted", seed=1, **option)
    assert len(set(names(*runs))) == 2


def test_only_dropout_differs(make_run: Make, row: Make) -> None:
    rows = [row(0, 0.9)]
    runs = [make_run(rows, dropout) for dropout in ("none", "ramping", "targeted")]
    assert names(*runs) == ["none", "ramping", "targeted"]


def test_a_parameter_is_shown_for_columns_of_the_same_dropout_alone(make_run: Make, row: Make) -> None:
    rows = [row(0, 0.9)]
    runs = [
        make_run(rows),
        make_run(rows, "targeted"),
        make_run(rows, "targeted", **{"dropout.alpha": 0.5}),
    ]
    assert names(*runs) == ["none", "targeted alpha=0.66", "targeted alpha=0.5"]


def test_data_model_and_length_are_shown_when_they_differ(make_run: Make, row: Make) -> None:
    rows = [row(0, 0.9)]
    cifar = {"data.name": "cifar10", "data.flip": True, "schedule.length": "8ep"}
    runs = [
        make_run(rows),
        make_run(rows, **cifar),
        make_run(rows, **{"model.name": "vgg16", "model.width": 2.0}),
    ]
    assert names(*runs) == [
        "digits resnet32 none length=50ep",
        "cifar10 resnet32 none length=8ep",
        "digits vgg16 none length=50ep",
    ]


def test_what_the_machine_decides_is_shown_only_where_nothing_else_differs(make_run: Make, row: Make) -> None:
    rows = [row(0, 0.9)]
    runs = [
        make_run(rows),
        make_run(rows, "targeted"),
        make_run(rows, "targeted", precision="bf16"),
    ]
    assert names(*runs) == ["none", "targeted precision=float32", "targeted precision=bf16"]
    assert names(runs[0], runs[2]) == ["none", "targeted"]


def test_options_of_one_last_word_get_their_full_names(make_run: Make, row: Make) -> None:
    rows = [row(0, 0.9)]
    runs = [
        make_run(rows),
        make_run(rows, **{"model.width": 2.0, "data.width": 8}),
        make_run(rows, **{"data.width": 9}),
    ]
    assert names(*runs)[1] == "none data.width=8 model.width=2.0"


def test_a_copy_is_no_further_sample(make_run: Make, row: Make, tmp_path: Path) -> None:
    rows = [row(0, 0.9)]
    runs = [
        make_run(rows),
        make_run(rows, seed=1),
        make_run(rows, folder=tmp_path / "outputs" / "copy"),
    ]
    (column,) = same_but_seed(measured(*runs))
    kept, repeats = without_repeats(column)
    assert [run.seed for run in kept] == [0, 1]
    assert repeats == [f"{tmp_path / 'outputs' / 'copy'} (seed 0 again)"]


def test_title_holds_what_is_common(make_run: Make, row: Make) -> None:
    rows = [row(0, 0.9)]
    runs = make_run(rows), make_run(rows, **{"schedule.length": "60ep"})
    assert common_title(measured(*runs)) == "digits · resnet32"
    assert common_title(measured(runs[0])) == "digits · resnet32 · 50ep"


def test_runs_that_nothing_named_tells_apart_get_their_folders(make_run: Make, row: Make) -> None:
    runs = make_run([row(0, 0.9)]), make_run([row(0, 0.9)], **{"model.new": None})
    for run in runs:
        run.write_status(hash=None)
    assert names(*runs) == [f"none {run.folder}" for run in runs]


def test_options_that_a_class_gained_later_tell_no_runs_apart(make_run: Make, row: Make) -> None:
    """A run from before an option existed has its default, both for columns and for selection by name."""
    target = {"dropout._target_": "runner.dropout.targeted.TargetedUnit"}
    old = make_run([row(0, 0.9)], "targeted_unit", **target)
    new = make_run([row(0, 0.9)], "targeted_unit", seed=1, **target, **{"dropout.ramp": None, "model.width": 1})
    other = make_run([row(0, 0.9)], "targeted_unit", seed=2, **target, **{"dropout.ramp": [0.1, 0.2, 0.3]})
    for run in (old, new):  # as in identities: only values that differ from the defaults
        run.write_status(hash="the same")
    columns = same_but_seed(measured(old, new, other))
    assert [[run.seed for run in column] for column in columns] == [[0, 1], [2]]
    assert column_names([column[0] for column in columns]) == [
        "targeted_unit ramp=null",
        "targeted_unit ramp=[0.1,0.2,0.3]",
    ]
    chosen, _ = gather([old, new, other], {"dropout.ramp": None})
    assert [run.seed for run in chosen] == [0, 1]


def test_seeds_stored_in_both_formats_share_a_column(make_run: Make, row: Make) -> None:
    older, newer = make_run([row(0.5, 0.9)]), make_run([row(0.5, 0.8)], seed=1)
    newer.write_status(**{**newer.status(), "hash": "of format 2", "hash_of_format_1": older.status()["hash"]})
    assert len(same_but_seed(measured(older, newer))) == 1
    groups, _ = seed_groups({run: run.config() for run in (older, newer)})
    assert [len(group) for group in groups] == [2]
