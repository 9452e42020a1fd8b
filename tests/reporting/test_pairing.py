"""Differences from a baseline, paired by seed, compared with values computed by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from runner.cli import main
from runner.errors import ConfigError
from runner.reporting.choice import Choice
from runner.reporting.gather import gather
from runner.reporting.sections import Table
from runner.reporting.table import make_table
from runner.reporting.writing import difference_cells, latex, markdown, write_table
from runner.runs import Run

Make = Callable[..., Any]


def table(*runs: Run, baseline: str | None = "none", **options: Any) -> Table:
    return make_table(gather(runs, {})[0], Choice(name="test", baseline=baseline, **options))


def differences(made: Table) -> list[list[str]]:
    section = made.sections[0]
    assert made.baseline is not None
    assert section.differences is not None
    return difference_cells(section, section.differences, made.baseline, made.metric)


@pytest.fixture
def three_seeds(make_run: Make, row: Make) -> list[Run]:
    none = [make_run([row(0.5, a)], seed=seed) for seed, a in enumerate((0.50, 0.60, 0.70))]
    return none + [make_run([row(0.5, a)], "targeted", seed=seed) for seed, a in enumerate((0.51, 0.62, 0.73))]


def test_mean_and_interval_of_differences_by_seed(three_seeds: list[Run]) -> None:
    made = table(*three_seeds)
    [got] = made.differences.to_dict("records")
    # differences 0.01, 0.02, 0.03: deviation 0.01; Student's t with two degrees of freedom 4.302653 (97.5 %)
    assert got["difference"] == pytest.approx(0.02)
    assert got["interval"] == pytest.approx(4.302653 * 0.01 / 3**0.5)
    assert (got["column"], got["baseline"], got["n"], got["batch_norm"]) == ("targeted", "none", 3, "kept")
    assert differences(made) == [
        ["sparsity", "targeted"],
        ["50 %", "+2.00 ± 2.48"],
        ["seeds", "3"],
    ]


def test_only_seeds_that_both_have_count(make_run: Make, row: Make) -> None:
    runs = [make_run([row(0.5, 0.5)], seed=1), make_run([row(0.5, 0.9)], "targeted", seed=0)]
    runs.append(make_run([row(0.5, 0.4)], "targeted", seed=1))
    made = table(*runs)
    [got] = made.differences.to_dict("records")
    assert got["difference"] == pytest.approx(-0.1)
    assert pd.isna(got["interval"])
    assert differences(made)[1] == ["50 %", "−10.00"]


def test_columns_without_a_common_seed_have_no_differences(make_run: Make, row: Make) -> None:
    made = table(make_run([row(0.5, 0.5)]), make_run([row(0.5, 0.9)], "targeted", seed=1))
    assert made.differences.empty
    assert differences(made) == [["sparsity", "targeted"], ["seeds", "–"]]


def test_unpruned_is_compared_with_unpruned(make_run: Make, row: Make) -> None:
    swept = [row(sparsity, 0.8, floor=0.75) for sparsity in (0.0, 0.75)]
    targeted = make_run([row(0, 0.3), *swept], "targeted")
    plain = make_run([row(0, 0.9), row(0.75, 0.2)])
    expected = [["unpruned", "−60.00"], ["0 %", "−10.00"], ["75 %", "+60.00"]]
    made = table(plain, targeted)
    assert differences(made)[1:-1] == expected
    assert [row[0] for row in expected] == [
        line.split("|")[1].strip() for line in markdown(made).splitlines() if line.startswith("|")
    ][-4:-1]
    other_way = table(plain, targeted, baseline="targeted")
    assert differences(other_way)[1:-1] == [
        ["unpruned", "+60.00"],
        ["0 %", "+10.00"],
        ["75 %", "−60.00"],
    ]


def test_each_section_by_itself_and_none_where_the_baseline_was_not_pruned(make_run: Make, row: Make) -> None:
    both = [row(0.5, 0.7), row(0.5, 0.6, batch_norm="recalibrated"), row(0.5, 0.5, granularity="unit")]
    made = table(make_run([row(0.5, 0.5), row(0.5, 0.5, batch_norm="recalibrated")]), make_run(both, "targeted"))
    assert [round(d, 9) for d in made.differences["difference"]] == [0.2, 0.1]
    assert [section.differences is None for section in made.sections] == [False, False, True]


def test_files_say_what_they_show(three_seeds: list[Run], tmp_path: Path) -> None:
    made = table(*three_seeds)
    paths = write_table(made, tmp_path)
    assert tmp_path / "differences.csv" in paths
    assert "### weights pruned, BatchNorm kept: difference from none, paired by seed" in markdown(made)
    assert "- Differences: mean over the seeds that both columns have, with half the width of a 95 %" in markdown(made)
    assert r"50 \% & +2.00 $\pm$ 2.48 \\" in latex(made)
    write_table(table(*three_seeds, baseline=None), tmp_path)
    assert not (tmp_path / "differences.csv").exists()


def test_an_unknown_column_is_named(three_seeds: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"table.baseline=targetd: no column .*did you mean targeted\? expected none"):
        table(*three_seeds, baseline="targetd")
    with pytest.raises(SystemExit):
        main(["table", str(three_seeds[0].folder.parent), "table.baseline=[none]"])
    assert "table.baseline=[none]: expected null or a word" in capsys.readouterr().err
