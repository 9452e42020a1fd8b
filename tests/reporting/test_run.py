"""A single run's pruning.png and its final summary."""

from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.image import imread

from runner.errors import DamagedRun
from runner.files import write_rows
from runner.reporting.curves import pruning_figure
from runner.reporting.drawing import Curve, Panel, Style
from runner.reporting.points import metrics_of, read_points
from runner.reporting.summary import WIDTH, pruning_summary

Make = Callable[..., Any]

GRID = (0, 0.3, 0.75, 0.985)


def test_summary_of_weights_and_filters(make_run: Make, row: Make) -> None:
    rows = [
        row(sparsity, 0.9 - sparsity / 10 - less, granularity=granularity, batch_norm=norm, split=split)
        for granularity, less in (("weight", 0), ("unit", 0.2))
        for norm in ("kept", "recalibrated")
        for sparsity in GRID
        for split in ("validation", "test")
    ]
    text = pruning_summary(make_run(rows))
    lines = text.splitlines()
    assert lines[0] == "test accuracy (%) after pruning: digits · resnet32 · none · 50ep · seed 0"
    assert lines[2].split() == ["weights", "filters"]
    assert lines[3].split() == ["sparsity", "%", *["actual", "%", "kept", "recalibrated"] * 2]
    assert lines[6].split() == ["75", *["74.90", "82.50", "82.50"], *["74.90", "62.50", "62.50"]]
    assert lines[7].split()[0] == "98.5"
    assert len(lines) == 8
    assert max(map(len, lines)) <= WIDTH


def test_summary_says_which_rows_are_of_the_network_pruned_at_the_floor(make_run: Make, row: Make) -> None:
    rows = [row(sparsity, 0.9, floor=0.75) for sparsity in GRID]
    last = pruning_summary(make_run(rows, "targeted")).splitlines()[-1]
    assert last == "Rows below 75 % are of the network pruned at its floor, 75 % (prune.floor; auto is γ)."
    assert "floor" not in pruning_summary(make_run(rows[2:], seed=1)).splitlines()[-1]


def test_summary_of_many_sweeps_stays_narrow_and_says_their_rules(make_run: Make, row: Make) -> None:
    rows = [
        row(0.5, 0.5, granularity=granularity, scope=scope, scores=scores, batch_norm=norm)
        for granularity in ("weight", "unit")
        for scope in ("layer", "global")
        for scores in ("own", "random")
        for norm in ("kept", "recalibrated")
    ]
    text = pruning_summary(make_run(rows))
    assert max(map(len, text.splitlines())) <= WIDTH
    for heading in ("weights, random scores", "weights, global", "filters, global, random scores"):
        assert heading in text


def test_summary_without_batch_norm_or_test_split(make_run: Make, row: Make) -> None:
    text = pruning_summary(make_run([row(0.5, 0.5, batch_norm="none", split="validation")]))
    assert text.startswith("validation accuracy (%)")
    assert text.splitlines()[-1].split() == ["50", "49.90", "50.00"]


@pytest.mark.parametrize("dropout", ["none", "targeted"])
def test_figure(make_run: Make, row: Make, dropout: str) -> None:
    floor = 0.75 if dropout == "targeted" else 0.0
    granularities = ("weight", "unit") if dropout == "none" else ("weight",)
    run = make_run([row(s, 0.9, floor=floor, granularity=g) for s in GRID for g in granularities], dropout)
    pruning_figure(run)
    first = run.pruning_figure.read_bytes()
    height, width = imread(run.pruning_figure).shape[:2]
    assert (width > 2 * height) == (dropout == "none")  # one panel per granularity
    run.pruning_figure.unlink()
    pruning_figure(run)
    assert run.pruning_figure.read_bytes() == first
    assert [path.name for path in run.folder.iterdir() if path.suffix == ".new"] == []


def test_figure_draws_each_sweep_once(make_run: Make, row: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Panel] = []
    monkeypatch.setattr("runner.reporting.curves.draw", lambda panels, *rest: drawn.extend(panels))
    rows = [row(s, 0.9 - s, batch_norm=norm, floor=0.75) for norm in ("kept", "recalibrated") for s in (0.8, 0.3)]
    pruning_figure(make_run([*rows, row(0.5, 0.2, scores="random", floor=0.75)], "targeted"))
    (panel,) = drawn
    assert panel.title == "weights pruned"
    assert panel.floors == [75.0]
    labels = {curve.label: curve for curve in panel.curves}
    assert list(labels) == [
        "BatchNorm kept, own scores",
        "BatchNorm recalibrated, own scores",
        "BatchNorm kept, random scores",
    ]
    kept = labels["BatchNorm kept, own scores"]
    assert (list(kept.x), list(kept.y)) == (pytest.approx([30, 80]), pytest.approx([60, 10]))
    assert [curve.style.dashed for curve in panel.curves] == [False, True, False]
    assert kept.style.colour != labels["BatchNorm kept, random scores"].style.colour


def test_a_run_without_rows_is_named(make_run: Make) -> None:
    run = make_run()
    for report in (pruning_summary, pruning_figure):
        with pytest.raises(DamagedRun, match=str(run.folder)):
            report(run)


def test_styles_repeat_late() -> None:
    assert len({Style.number(index) for index in range(56)}) == 56
    assert Curve("a", Style.number(0), [], []).deviation == ()


def test_summary_and_figure_show_the_unpruned_network(
    make_run: Make, row: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = ("kept", "recalibrated")
    rows = [row(0, 0.95 + i / 100, batch_norm=norm, actual_sparsity=0.0) for i, norm in enumerate(norms)]
    rows += [row(s, 0.9, batch_norm=norm, floor=0.75) for norm in norms for s in GRID]
    run = make_run(rows, "targeted")
    lines = pruning_summary(run).splitlines()
    assert [line.split()[0] for line in lines[4:9]] == ["unpruned", "0", "30", "75", "98.5"]
    assert lines[4].split() == ["unpruned", "0.00", "95.00", "96.00"]
    drawn: list[Panel] = []
    monkeypatch.setattr("runner.reporting.curves.draw", lambda panels, *rest: drawn.extend(panels))
    pruning_figure(run)
    (panel,) = drawn
    assert [(curve.label, len(curve.x), curve.unpruned) for curve in panel.curves] == [
        ("BatchNorm kept", 4, pytest.approx(95)),
        ("BatchNorm recalibrated", 4, pytest.approx(96)),
    ]
    drawn.clear()
    pruning_figure(make_run([row(s, 0.9) for s in GRID]))
    assert [curve.unpruned for curve in drawn[0].curves] == [None]


def test_the_unpruned_network_is_drawn_and_named_in_the_legend(make_run: Make, row: Make) -> None:
    rows = [row(s, 0.5, floor=0.75) for s in GRID]
    without, run = make_run(rows, "targeted"), make_run([row(0, 0.9), *rows], "targeted", seed=1)
    for one in (without, run):
        pruning_figure(one)
    assert imread(run.pruning_figure).shape[0] > imread(without.pruning_figure).shape[0] - 1
    assert run.pruning_figure.read_bytes() != without.pruning_figure.read_bytes()


def test_sweeps_from_before_costs_were_recorded_are_read(make_run: Make, row: Make) -> None:
    run = make_run()
    write_rows(run.pruning_file, list(row(0.5, 0.9)), [row(0.5, 0.9)])
    assert metrics_of(read_points(run)) == ["accuracy", "loss"]
    run = make_run([row(0, 0.9, bytes=1000), row(0.5, 0.8)], seed=1)
    assert read_points(run)["bytes"].fillna(-1).tolist() == [1000, -1]
    assert metrics_of(read_points(run)) == ["accuracy", "loss"]
