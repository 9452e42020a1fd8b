"""run fit, from a real sweep on digits to the chosen network."""

from pathlib import Path

import pytest

from runner.compaction import latency
from runner.files import read_rows
from runner.runs import Run


@pytest.fixture
def swept(call, finished: Run) -> Run:
    """Runs with filters and weights pruned at two sparsities, on both splits."""
    words = ["prune.splits=[validation,test]", "prune.granularity=[unit,weight]", "prune.sparsities=[0,0.5]"]
    result = call("prune", str(finished.folder), *words, "prune.floor=0")
    assert result.code == 0, result.err
    return finished


def test_each_kind_of_budget(call, swept, monkeypatch):
    """Budgets that every network meets, and budgets that none meets."""
    drawn = []
    monkeypatch.setattr("runner.analyses.fit.draw", lambda panels, *rest: drawn.append(rest[-1]))
    monkeypatch.setattr(latency, "ROUNDS", 1)
    monkeypatch.setattr(latency, "TURN", 0.0)
    for words, met, granularity in (
        (["accuracy_drop=1", "smallest=flops"], True, "unit"),
        (["bytes=1GB"], True, None),
        (["parameters=1"], False, None),
        (["flops=1", "latency=1s"], False, None),
        (["latency=100s"], True, None),
        (["accuracy_drop=1", "latency=1us"], False, None),
    ):
        result = call("fit", str(swept.folder), *words)
        assert result.code == 0, result.err
        assert result.out.startswith("The choice: " if met else "No network is within the budget"), words
        first = read_rows(Path("outputs/fit/table.csv"))[0]
        assert first["within"] == str(met)
        assert first["test_accuracy"], "confirmed on test"
        assert granularity in (None, first["granularity"])
        measured = "latency" in words[-1] and "flops=1" not in words
        assert ("when measured again" in result.out) == measured
        assert ("microseconds, batch 1" in drawn[-1]) == measured
        assert not measured or float(first["latency_ms"]) > 0
