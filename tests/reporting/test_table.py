"""The numbers of a table, compared with values computed by hand."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from runner.errors import ConfigError
from runner.reporting.choice import Choice, PublishedColumn
from runner.reporting.gather import gather
from runner.reporting.sections import Table
from runner.reporting.table import make_table
from runner.reporting.writing import cells
from runner.runs import Run

Make = Callable[..., Any]


def table(*runs: Run, **options: Any) -> Table:
    choice = Choice(name="test", **options)
    return make_table(gather(runs, choice.runs)[0], choice)


def one(made: Table, column: str, sparsity: float, **more: str) -> Any:
    rows = made.rows
    for name, value in {"column": column, "sparsity": sparsity, **more}.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_mean_and_sample_deviation_over_seeds(make_run: Make, row: Make) -> None:
    runs = [
        make_run([row(0.5, accuracy, actual_sparsity=0.49 + seed / 100)], seed=seed)
        for seed, accuracy in enumerate((0.90, 0.92, 0.97))
    ]
    got = one(table(*runs), "none", 0.5)
    # mean (0.90 + 0.92 + 0.97) / 3; square root of the squared distances 0.0009 + 0.0001 + 0.0016 divided by 2
    assert got["mean"] == pytest.approx(0.93)
    assert got["std"] == pytest.approx(0.0013**0.5)
    assert got["n"] == 3
    assert got["actual_sparsity"] == pytest.approx(0.50)


def test_one_seed_has_no_deviation(make_run: Make, row: Make) -> None:
    got = one(table(make_run([row(0.5, 0.9)])), "none", 0.5)
    assert got["n"] == 1
    assert pd.isna(got["std"])


def test_a_seed_that_lacks_a_row_is_not_counted_there(make_run: Make, row: Make) -> None:
    made = table(make_run([row(0, 0.9), row(0.5, 0.5)]), make_run([row(0, 0.8)], seed=1))
    assert [one(made, "none", sparsity)["n"] for sparsity in (0, 0.5)] == [2, 1]
    assert one(made, "none", 0.5)["mean"] == 0.5


def test_rows_of_other_kinds_stay_out(make_run: Make, row: Make) -> None:
    others = [
        row(0.5, 0.1, split="validation"),
        row(0.5, 0.2, scope="global"),
        row(0.5, 0.3, scores="random"),
        row(0.5, 0.4, batch_norm="recalibrated"),
        row(0.5, 0.6, granularity="unit"),
    ]
    run = make_run([row(0.5, 0.9), *others])
    made = table(run, batch_norm=["kept"], granularity="weight")
    assert list(made.rows["mean"]) == [0.9]
    for option, value in (("split", "validation"), ("scope", "global"), ("scores", "random")):
        assert list(table(run, batch_norm=["kept"], **{option: value}).rows["mean"]) == [
            {"validation": 0.1, "global": 0.2, "random": 0.3}[value]
        ]


def test_a_section_for_each_granularity_and_way_with_batch_norm(make_run: Make, row: Make) -> None:
    rows = [
        row(0.5, 0.1, granularity="unit"),
        row(0.5, 0.2, batch_norm="recalibrated"),
        row(0.5, 0.3),
    ]
    sections = table(make_run(rows)).sections
    assert [(s.granularity, s.batch_norm, s.rows["mean"].item()) for s in sections] == [
        ("weight", "kept", 0.3),
        ("weight", "recalibrated", 0.2),
        ("unit", "kept", 0.1),
    ]


def test_a_model_without_batch_norm_fits_either_way(make_run: Make, row: Make) -> None:
    plain = make_run([row(0.5, 0.7, batch_norm="none")], **{"model.name": "mlp"})
    assert [s.batch_norm for s in table(plain).sections] == ["none"]
    both = make_run([row(0.5, 0.8), row(0.5, 0.9, batch_norm="recalibrated")])
    made = table(plain, both)
    assert [(s.batch_norm, sorted(s.rows["mean"])) for s in made.sections] == [
        ("kept", [0.7, 0.8]),
        ("recalibrated", [0.7, 0.9]),
    ]


def test_floor_auto_prefers_gamma_then_the_first_sweep(make_run: Make, row: Make) -> None:
    floors = [row(0.5, 0.2, floor=0.0), row(0.5, 0.9, floor=0.75)]
    assert one(table(make_run(floors, "targeted")), "targeted", 0.5)["mean"] == 0.9
    unit = [row(0.5, 0.3, granularity="unit"), row(0.5, 0.4, granularity="unit", floor=0.2)]
    assert one(table(make_run(unit, "targeted", seed=1)), "targeted", 0.5)["mean"] == 0.3


def test_floor_can_be_chosen(make_run: Make, row: Make) -> None:
    run = make_run([row(0.5, 0.9, floor=0.75), row(0.5, 0.2, floor=0.0)], "targeted")
    assert one(table(run, floor=0), "targeted", 0.5)["mean"] == 0.2
    with pytest.raises(ConfigError, match=r"floor=0.5; .*floor 0.75, 0.0"):
        table(run, floor=0.5)


def test_rows_below_the_floor_are_noted(make_run: Make, row: Make) -> None:
    rows = [row(sparsity, 0.9, floor=0.75) for sparsity in (0.5, 0.75)]
    note = "targeted: rows below 75 % are for the network with 75 % of its weights pruned, its floor."
    assert table(make_run(rows, "targeted")).notes == [note]
    assert table(make_run(rows[1:], "targeted", seed=1)).notes == []


def test_sparsities_can_be_chosen(make_run: Make, row: Make) -> None:
    run = make_run([row(sparsity, 0.9) for sparsity in (0, 0.3, 0.5)])
    assert list(table(run, sparsities=[0.5, 0.1 + 0.2]).rows["sparsity"]) == [0.3, 0.5]
    with pytest.raises(ConfigError, match=r"table.sparsities=\[0.6\]"):
        table(run, sparsities=[0.6])


def test_any_metric_can_be_chosen(make_run: Make, row: Make) -> None:
    run = make_run([row(0.5, 0.9)])
    assert one(table(run, metric="loss"), "none", 0.5)["mean"] == pytest.approx(0.2)
    with pytest.raises(ConfigError, match=r"table.metric=bleu: expected auto, accuracy, loss"):
        table(run, metric="bleu")


def test_runs_judged_by_different_metrics_are_not_mixed(make_run: Make, row: Make) -> None:
    bleu = make_run([row(0.5, 0.9, bleu=20)], metrics=["bleu", "accuracy"], **{"data.name": "translation"})
    with pytest.raises(ConfigError, match="headline metrics differ, accuracy and bleu"):
        table(make_run([row(0.5, 0.9)]), bleu)


def test_runs_are_chosen_by_dotted_names_and_stand_in_the_order_of_the_list(make_run: Make, row: Make) -> None:
    runs = [make_run([row(0, 0.9)], dropout) for dropout in ("none", "ramping", "targeted")]
    assert table(*runs).own_columns == ["none", "ramping", "targeted"]
    assert table(*runs, runs={"dropout": ["targeted", "none"]}).own_columns == ["targeted", "none"]
    assert table(*runs, runs={"dropout.gamma": 0.75}).own_columns == ["targeted"]
    with pytest.raises(ConfigError, match=r"no finished run with table.runs=\{dropout: smallify\}"):
        table(*runs, runs={"dropout": "smallify"})
    with pytest.raises(ConfigError, match=r"no run has an option dropuot; did you mean dropout\?"):
        table(*runs, runs={"dropuot": "none"})


def test_copies_are_noted_and_not_counted(make_run: Make, row: Make, tmp_path: Any) -> None:
    made = table(make_run([row(0, 0.9)]), make_run([row(0, 0.9)], folder=tmp_path / "copy"))
    assert one(made, "none", 0)["n"] == 1
    assert made.notes == [f"Left out, a copy: {tmp_path / 'copy'} (seed 0 again)."]


HEAD = "targeted a=0.66 g=0.75"
PUBLISHED = [
    PublishedColumn("paper2_weight", "none", "weight", "accuracy", "Table 2", {"dropout": "none"}),
    PublishedColumn(
        "paper2_weight", HEAD, "weight", "accuracy", "Table 2", {"dropout": "targeted", "dropout.alpha": 0.66}
    ),
]


def test_published_columns_stand_beside_runs_of_their_kind(make_run: Make, row: Make) -> None:
    rows = [row(sparsity, 0.8) for sparsity in (0.5, 0.75)]
    made = table(make_run(rows), make_run(rows, "ramping"), make_run(rows, "targeted"), published=PUBLISHED)
    assert made.sections[0].columns == ["none", "paper: none", "ramping", "targeted", "paper: targeted"]
    got = one(made, "paper: targeted", 0.5)
    assert got["mean"] == pytest.approx(0.9265)  # the paper's 92.65 %
    assert got["source"] == f"paper2_weight: {HEAD}"
    assert pd.isna(got["n"])
    assert not ((made.rows["column"] == "paper: none") & (made.rows["sparsity"] == 0.75)).any()
    assert made.notes == [f"paper: none, paper: targeted: Table 2, there “none”, “{HEAD}” (paper2_weight.csv)."]


def test_published_columns_need_the_same_parameters_and_rules(make_run: Make, row: Make) -> None:
    rows = [row(0.5, 0.8), row(0.5, 0.8, batch_norm="recalibrated"), row(0.5, 0.8, granularity="unit")]
    other = make_run(rows, "targeted", **{"dropout.alpha": 0.5})
    assert [s.columns for s in table(other, published=PUBLISHED).sections] == [["targeted"]] * 3
    same = make_run([*rows, row(0.5, 0.8, split="validation")], "targeted")
    columns = [s.columns for s in table(same, published=PUBLISHED).sections]
    assert columns == [["targeted", "paper: targeted"], ["targeted"], ["targeted"]]
    assert table(same, published=PUBLISHED, metric="loss").sections[0].columns == ["targeted"]
    assert table(same, published=PUBLISHED, split="validation").sections[0].columns == ["targeted"]


def test_two_published_columns_of_one_dropout_are_told_apart(make_run: Make, row: Make) -> None:
    heads = ["targeted a=0.5 g=0.5", HEAD]
    published = [
        PublishedColumn("paper2_weight", head, "weight", "accuracy", "Table 2", {"dropout": "targeted"})
        for head in heads
    ]
    made = table(make_run([row(0.5, 0.8)], "targeted"), published=published)
    assert made.sections[0].columns == ["targeted", *(f"paper: {head}" for head in heads)]


def floored(row: Make, unpruned: float | None = None, granularity: str = "weight") -> list[Any]:
    """Return a sweep that starts at the floor 0.75, and the unpruned network if its accuracy is given."""
    rows = [row(s, 0.9 if s < 0.9 else 0.3, floor=0.75, granularity=granularity) for s in (0.0, 0.75, 0.9)]
    return rows if unpruned is None else [row(0.0, unpruned, granularity=granularity, actual_sparsity=0.0), *rows]


def test_the_unpruned_network_is_a_row_of_its_own_above_a_floor(make_run: Make, row: Make) -> None:
    none = make_run([row(0.0, 0.95), row(0.75, 0.4), row(0.9, 0.2)])
    made = table(none, *(make_run(floored(row, 0.92 + seed / 50), "targeted", seed=seed) for seed in (0, 1)))
    (section,) = made.sections
    lines = cells(section, made.metric)
    assert [line[0] for line in lines] == ["sparsity", "unpruned", "0 %", "75 %", "90 %", "seeds"]
    assert lines[1][1:] == ["95.00", "93.00 ± 1.41"]
    assert lines[2][1:] == ["95.00", "90.00 ± 0.00"]
    rows = made.rows[(made.rows["column"] == "targeted") & (made.rows["sparsity"] == 0)]
    assert rows[["floor", "actual_sparsity", "n"]].values.tolist() == [[0, 0, 2], [0.75, pytest.approx(0.749), 2]]
    assert any(note.startswith("unpruned: ") for note in made.notes)
    assert any("rows below 75 % are for the network with 75 % of its weights pruned" in note for note in made.notes)


def test_sweeps_from_before_the_unpruned_network_was_measured_still_tabulate(make_run: Make, row: Make) -> None:
    none = make_run([row(0.0, 0.95), row(0.75, 0.4), row(0.9, 0.2)])
    old, new = make_run(floored(row), "targeted"), make_run(floored(row, 0.97), "targeted", **{"dropout.alpha": 0.5})
    made = table(none, old)
    assert [line[0] for line in cells(made.sections[0], made.metric)][1] == "0 %"
    assert not any("unpruned" in note for note in made.notes)
    made = table(none, old, new)
    assert cells(made.sections[0], made.metric)[1] == ["unpruned", "95.00", "97.00", "–"]


def test_a_sweep_without_a_floor_has_the_unpruned_network_already(make_run: Make, row: Make) -> None:
    made = table(make_run([row(0.0, 0.95), row(0.9, 0.2)]))
    assert [line[0] for line in cells(made.sections[0], made.metric)] == ["sparsity", "0 %", "90 %", "seeds"]
    rows = [*floored(row, 0.92), row(0.5, 0.91)]  # run prune … prune.floor=0 prune.sparsities=[0,0.5]
    made = table(make_run(rows, "targeted"), floor=0)
    assert made.rows[["sparsity", "mean"]].values.tolist() == [[0, 0.92], [0.5, 0.91]]


def test_the_unpruned_network_stands_beside_any_scores_and_is_no_floor_of_its_own(make_run: Make, row: Make) -> None:
    """Its row has own scores and layer scope for any options; the floor is that of the sweep."""
    rows = [row(0.0, 0.92), *(row(s, 0.5, floor=0.6, scores="random", scope="global") for s in (0.0, 0.9))]
    made = table(make_run(rows, "targeted"), scores="random", scope="global")
    assert made.rows[["floor", "sparsity", "mean"]].values.tolist() == [[0, 0, 0.92], [0.6, 0, 0.5], [0.6, 0.9, 0.5]]
    with pytest.raises(ConfigError, match="no run was pruned with"):
        table(make_run(rows, "targeted", seed=1), scores="magnitude")


def test_published_numbers_stand_beside_the_papers_reading(make_run: Make, row: Make) -> None:
    made = table(make_run(floored(row, 0.92), "targeted"), published=PUBLISHED)
    lines = cells(made.sections[0], made.metric)
    assert lines[1] == ["unpruned", "92.00", "–"]
    assert lines[2][0] == "0 %" and lines[2][2] != "–"
