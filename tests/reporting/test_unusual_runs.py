"""Tables, figures and lists of runs that were swept or stored in unusual ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.compaction.budget import choose
from runner.errors import ConfigError
from runner.reporting import redraw as redrawing
from runner.reporting import writing
from runner.reporting.choice import Choice, PublishedColumn
from runner.reporting.description import description
from runner.reporting.difference import difference
from runner.reporting.drawing import Panel
from runner.reporting.finding import Found
from runner.reporting.gather import gather
from runner.reporting.listing import run_lines
from runner.reporting.sections import Table
from runner.reporting.table import make_table
from runner.reporting.writing import cells, latex, write_table
from runner.runs import Run

Make = Callable[..., Any]
METRICS = "epoch,train_loss,validation_loss\n1,0.9,\n2,0.5,\n"


def table(*runs: Run, **options: Any) -> Table:
    return make_table(gather(runs, {})[0], Choice(name="test", **options))


def listed(run: Run) -> str:
    return " ".join(run_lines([Found.read(run)]))


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> list[list[Panel]]:
    """The panels of each table figure, which is not drawn."""
    seen: list[list[Panel]] = []
    monkeypatch.setattr(writing, "draw", lambda panels, *_: seen.append(list(panels)))
    return seen


def test_learning_curves_without_validation_examples(make_run: Make, row: Make, tmp_path: Path) -> None:
    run = make_run([row(0.5, 0.9)])
    run.metrics_file.write_text(METRICS)
    assert tmp_path / "out" / "learning.png" in write_table(table(run), tmp_path / "out")


def test_learning_curves_of_an_older_table_are_removed(make_run: Make, row: Make, tmp_path: Path) -> None:
    run = make_run([row(0.5, 0.9)])
    run.metrics_file.write_text(METRICS)
    write_table(table(run), tmp_path / "out")
    run.metrics_file.unlink()
    write_table(table(run), tmp_path / "out")
    assert not list((tmp_path / "out").glob("learning.*"))


def test_a_sparsity_written_in_two_ways_is_one_measurement(make_run: Make, row: Make) -> None:
    run = make_run([row(0.3, 0.8), row(0.1 + 0.2, 0.9)])
    made = table(run, make_run([row(0.3, 0.7)], "targeted"), baseline="none")
    got = made.rows[made.rows["column"] == "none"]
    assert (got["mean"].item(), got["n"].item()) == (0.9, 1)
    assert made.differences["difference"].item() == pytest.approx(-0.2)


def test_a_granularity_that_supports_layer_scope_alone(make_run: Make, row: Make) -> None:
    patterns = [row(0.5, 0.3, granularity="n_of_m")]
    run = make_run([row(0.0, 0.95), row(0.5, 0.9, scope="global"), row(0.5, 0.1), *patterns], "targeted")
    run.write_status(**run.status(), scope="global")
    means = table(run).rows.set_index(["granularity", "sparsity"])["mean"]
    assert means["weight", 0.5] == 0.9
    assert means["n_of_m", 0.5] == 0.3
    assert "50% 90.00" in listed(run)
    assert "n_of_m: 50% 30.00" in listed(run)


def test_a_later_sweep_with_another_floor_changes_neither_list_nor_difference(make_run: Make, row: Make) -> None:
    run = make_run([row(0, 0.95), row(0.5, 0.9), row(0.5, 0.3, floor=0.75)])
    run.write_status(**run.status(), floors={"weight": 0.0})
    assert "50% 90.00" in listed(run)
    assert "30.00" not in listed(run)
    text = "\n".join(difference(Found.read(run), Found.read(run)))
    assert "90.00" in text
    assert "30.00" not in text


def test_floors_of_all_seeds_count(make_run: Make, row: Make) -> None:
    first = make_run([row(0.75, 0.9, floor=0.75)], "targeted")
    first.write_status(**first.status(), floors={"weight": 0.75})
    unit = [row(0.5, 0.3, granularity="unit"), row(0.5, 0.8, granularity="unit", floor=0.5)]
    second = make_run([row(0.75, 0.9, floor=0.75), *unit], "targeted", seed=1)
    second.write_status(**second.status(), floors={"weight": 0.75, "unit": 0.5})
    for runs in ([first, second], [second, first]):
        rows = table(*runs).rows
        assert rows.loc[rows["granularity"] == "unit", "mean"].tolist() == [0.8]


def test_a_network_without_a_metric_is_not_chosen(make_run: Make, row: Make) -> None:
    cost = {"flops": 10.0, "parameters": 10.0, "effective_sparsity": 0.5}
    rows = [row(0, 0.9, bytes=100.0, **cost), row(0.5, 0.89, bytes=60.0, **cost)]
    rows.append(row(0.9, float("nan"), bytes=20.0, **cost))
    points = gather([make_run(rows)], {})[0][0].points.assign(run="x")
    chosen = choose(points, "accuracy", True, {}, 0.02, "bytes")
    assert chosen.candidates["sparsity"].tolist()[0] == 0.5
    assert 0.9 not in chosen.candidates["sparsity"].tolist()


def test_costs_of_zero_and_missing_costs(make_run: Make, row: Make, panels: list[list[Panel]], tmp_path: Path) -> None:
    rows = [row(0.5, 0.9, bytes=100), row(1.0, 0.1, nonzero_weights=0, bytes=50), row(0.5, 0.3, granularity="unit")]
    run = make_run(rows)
    write_table(table(run, x="nonzero_weights"), tmp_path)
    assert [curve.x for curve in panels[-1][0].curves] == [[468]]
    write_table(table(run, x="bytes"), tmp_path)
    assert [panel.title for panel in panels[-1]] == ["weights pruned, BatchNorm kept"]
    with pytest.raises(ConfigError, match=r"table.x=bytes: the sweeps of these runs have no bytes"):
        table(run, x="bytes", granularity="unit")


def test_models_with_and_without_batch_norm_in_both_modes(
    make_run: Make, row: Make, panels: list[list[Panel]], tmp_path: Path
) -> None:
    plain = make_run([row(0.5, 0.8, batch_norm="none")], **{"model.name": "mlp"})
    kept = make_run([row(0.5, 0.9)])
    assert [section.batch_norm for section in table(kept, plain).sections] == ["kept"]
    both = make_run([row(0.5, 0.9), row(0.5, 0.7, batch_norm="recalibrated")], seed=1)
    write_table(table(both, plain), tmp_path)
    redrawing.redraw(tmp_path)
    drawn, again = ([[(c.label, list(c.y)) for c in panel.curves] for panel in one] for one in panels)
    assert len(drawn) == 2
    assert [sorted(panel) for panel in again] == [sorted(panel) for panel in drawn]


def test_a_metric_of_ones_own_is_drawn_again_with_its_label(
    make_run: Make, row: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {"name": "nearest", "label": "same nearest neighbour", "percent": True, "higher_is_better": True}
    values = {name: value for name, value in row(0.5, 0.5).items() if name != "accuracy"}
    run = make_run([{**values, "nearest": 0.5}], metrics=["nearest"])
    run.write_status(**run.status(), metrics=[{**described, "decimals": None}])
    labels: list[tuple[str, float]] = []
    monkeypatch.setattr(
        writing, "draw", lambda panels, _, __, label, *more: labels.append((label, panels[0].curves[0].y[0]))
    )
    write_table(table(run), tmp_path)
    redrawing.redraw(tmp_path)
    assert labels == [("test same nearest neighbour (%)", 50.0)] * 2


def test_results_are_shown_whatever_was_swept(make_run: Make, row: Make) -> None:
    assert "weight: 50% 90.00" in listed(make_run([row(0.5, 0.9, batch_norm="recalibrated")]))
    validation = make_run([row(0.5, 0.9, split="validation")], "targeted")
    assert any("validation accuracy" in line for line in description(Found.read(validation)))


def test_what_is_missing_is_named(make_run: Make, row: Make) -> None:
    run = make_run([row(0.5, 0.9)])
    with pytest.raises(ConfigError, match=r"table.batch_norm=recalibrated .*batch_norm kept"):
        table(run, batch_norm=["recalibrated"])
    with pytest.raises(ConfigError, match=r"table.baseline=none: there is no other column"):
        table(run, baseline="none")


def test_a_published_column_has_the_scope_of_the_one_it_is_beside(make_run: Make, row: Make) -> None:
    wide = make_run([row(0.5, 0.9, scope="global")])
    wide.write_status(**wide.status(), scope="global")
    head = "targeted a=0.66 g=0.75"
    published = [PublishedColumn("paper2_weight", head, "weight", "accuracy", "Table 2", {"dropout": "targeted"})]
    rows = table(wide, make_run([row(0.5, 0.9)], "targeted"), published=published).rows
    assert rows.set_index("column")["scope"].to_dict() == {
        "none": "global",
        "targeted": "layer",
        "paper: targeted": "layer",
    }


def test_options_that_older_runs_do_not_store_are_no_difference(make_run: Make, row: Make) -> None:
    older, newer = make_run([row(0.5, 0.9)]), make_run([row(0.5, 0.8)], seed=1, limit=None, sync_batch_norm=True)
    text = "\n".join(difference(Found.read(older), Found.read(newer)))
    assert "limit" not in text
    assert "sync_batch_norm" not in text


def test_columns_named_like_the_words_of_differences(make_run: Make, row: Make) -> None:
    plain = make_run([row(0.5, 0.9)])
    for name in ("seed", "sparsity", "unpruned", "difference", "value"):
        assert table(plain, make_run([row(0.5, 0.8)], name), baseline="none").differences["column"].tolist() == [name]


def test_signs_that_latex_does_not_know(make_run: Make, row: Make) -> None:
    runs = [make_run([row(0.5, 0.9)], name) for name in ('a<b>|"', "α≥β")]
    text = latex(table(*runs))
    assert r"a\textless{}b\textgreater{}\textbar{}\textquotedbl{}" in text
    assert r"$\alpha$$\geq$$\beta$" in text
    assert cells(table(*runs).sections[0], table(*runs).metric)[0][1:] == ['a<b>|"', "α≥β"]
