"""run fit, on hand-written sweeps."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from runner.commands.fit import main as fit
from runner.compaction.budget import Choice, amount, within_latency
from runner.errors import ConfigError

# sparsity, granularity, validation and test accuracy, bytes, flops
SWEEP = (
    *((0.0, "weight", 0.95, 0.94, 4000, 900), (0.5, "weight", 0.948, 0.93, 2000, 900)),
    *((0.9, "weight", 0.90, 0.89, 500, 900), (0.5, "unit", 0.93, 0.92, 1500, 300), (0.9, "unit", 0.6, 0.6, 300, 50)),
)


@pytest.fixture
def folder(make_run: Any, row: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    rows = []
    for sparsity, granularity, validation, test, size, flops in SWEEP:
        costs = {"bytes": size, "flops": flops, "parameters": size / 4, "granularity": granularity}
        rows += [row(sparsity, validation, split="validation", **costs), row(sparsity, test, **costs)]
    return str(make_run(rows).folder)


@pytest.mark.parametrize(
    ("words", "granularity", "sparsity", "confirmed"),
    [
        (["accuracy_drop=0.01"], "weight", 0.5, 0.93),
        (["accuracy_drop=0.025"], "unit", 0.5, 0.92),
        (["accuracy_drop=0.06", "smallest=flops"], "unit", 0.5, 0.92),
        (["accuracy_drop=0.06"], "weight", 0.9, 0.89),
        (["bytes=1.6kB"], "unit", 0.5, 0.92),
        (["parameters=130"], "weight", 0.9, 0.89),
        (["flops=100"], "unit", 0.9, 0.6),
    ],
)
def test_the_choice_of_each_budget(
    words: list[str], granularity: str, sparsity: float, confirmed: float, folder: str, capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    drawn: list[Any] = []
    monkeypatch.setattr("runner.analyses.fit.draw", lambda panels, *rest: drawn.append((panels[0].curves, rest[-1])))
    assert fit([folder], words) == 0
    assert "The choice: " in capsys.readouterr().out
    first = pd.read_csv("outputs/fit/table.csv").iloc[0]
    assert (first["granularity"], first["sparsity"], first["test_accuracy"]) == (granularity, sparsity, confirmed)
    assert first["within"]
    (_, front), label = drawn[0]
    assert label == "bytes"
    assert front.x == [300, 500, 1500, 2000, 4000]
    assert drawn[1][0][1].x == [50, 300, 900]


def test_a_budget_that_can_not_be_met_names_the_nearest(folder: str, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("runner.analyses.fit.draw", lambda *_: None)
    assert fit([folder], ["accuracy_drop=0.001", "bytes=1.9kB", "out=here"]) == 0
    assert "No network is within the budget; the nearest is: " in capsys.readouterr().out
    first = pd.read_csv("here/table.csv").iloc[0]
    assert (first["granularity"], first["sparsity"], first["within"]) == ("unit", 0.5, False)


def test_a_network_without_cost_has_no_place_on_a_logarithmic_axis(
    make_run: Any, row: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    costs = [(0.0, 0.9, 900), (1.0, 0.1, 0)]
    rows = [row(s, a, split="validation", bytes=100, parameters=10, flops=flops) for s, a, flops in costs]
    assert fit([str(make_run(rows).folder)], ["accuracy_drop=0.5"]) == 0
    assert Path("outputs/fit/pareto_flops.png").exists()


def test_latency_is_measured_within_the_rest_of_the_budget(folder: str, capsys: Any, monkeypatch: Any) -> None:
    asked: list[list[tuple[str, float]]] = []

    def latencies(rows: Any, batch: int, *_: Any) -> list[tuple[float, str]]:
        assert batch == 4
        asked.append([(row["granularity"], row["sparsity"]) for row in rows])
        return [(float(row["bytes"]) / 100, "eager") for row in rows]

    drawn: list[Any] = []
    monkeypatch.setattr("runner.compaction.latency.latencies", latencies)
    monkeypatch.setattr("runner.analyses.fit.draw", lambda panels, *rest: drawn.append((panels[0].curves, rest[-1])))
    assert fit([folder], ["bytes=3kB", "latency=16ms", "batch=4"]) == 0
    out = capsys.readouterr().out
    assert "The choice: " in out
    assert "15 ms with eager, interleaved with the others, and 15 ms with eager when measured again" in out
    assert asked == [[("weight", 0.5), ("unit", 0.5), ("weight", 0.9), ("unit", 0.9)], [("unit", 0.5)]]
    table = pd.read_csv("outputs/fit/table.csv")
    assert list(table["bytes"]) == [1500, 500, 300, 2000, 4000]
    assert list(table["within"]) == [True, True, True, False, False]
    assert drawn[2][1] == "microseconds, batch 4"
    assert drawn[2][0][1].x == [3000, 5000, 15000, 20000]

    assert fit([folder], ["latency=2ms", "batch=4"]) == 0
    assert "No network is within the budget; the nearest is: " in capsys.readouterr().out
    assert pd.read_csv("outputs/fit/table.csv").iloc[0]["bytes"] == 300


def test_a_network_that_a_better_one_undercuts_is_not_measured() -> None:
    ranked = pd.DataFrame({"flops": [9, 9, 5], "bytes": [100, 200, 300], "within": [True] * 3})
    measured: list[int] = []

    def measure(rows: Any) -> list[tuple[float, str]]:
        measured.extend(row["bytes"] for row in rows)
        return [(1.0, "eager")] * len(rows)

    found = within_latency(Choice(ranked, True), 5.0, measure).candidates
    assert measured == [100, 300]
    assert list(found["bytes"]) == [100, 300, 200]
    assert list(found["within"]) == [True, True, False]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run fit needs a budget"),
        (["latency=5"], "latency=5: expected null or a time above 0 with its unit, as 5ms, 300us or 0.1s"),
        (["latency=5ms", "batch=0"], "batch=0: expected a whole number of at least 1"),
        (["bytes=many"], "bytes=many: expected null or a number above 0"),
        (["bytes=1MB", "granularity=feature"], "granularity=feature: expected auto, weight, unit"),
        (["accuracy_drop=-1"], "accuracy_drop=-1: expected null or a number above 0"),
    ],
)
def test_bad_budgets(words: list[str], message: str, folder: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit([folder], words)
    assert not Path("outputs/fit").exists()


def test_amounts() -> None:
    assert [amount(text) for text in (5, "100k", "1.5M", "1MB", "300kB", 1e6)] == [5, 1e5, 1.5e6, 1e6, 3e5, 1e6]
