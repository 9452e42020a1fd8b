"""Figures drawn from a table's own files equal those drawn with the table."""

from pathlib import Path
from typing import Any

import pytest

from runner.analyses.scree import report
from runner.config.compose import Composer
from runner.errors import ConfigError
from runner.files import write_frame, write_text
from runner.reporting import reproduction
from runner.reporting.choice import Choice, PublishedColumn
from runner.reporting.gather import gather
from runner.reporting.redraw import redraw
from runner.reporting.table import make_table
from runner.reporting.writing import write_table
from runner.tasks.metrics import MSE


def same_figures_again(folder: Path) -> None:
    drawn = {path: path.read_bytes() for ending in ("png", "svg") for path in folder.glob(f"*.{ending}")}
    for path in drawn:
        path.unlink()
    assert drawn
    assert set(redraw(folder)) == set(drawn)
    assert {path: path.read_bytes() for path in drawn} == drawn


def test_of_run_table(make_run: Any, row: Any, tmp_path: Path) -> None:
    grid = [(s, norm) for s in (0, 0.5, 0.99) for norm in ("kept", "recalibrated")]
    whole = row(0.0, 0.97, floor=0.0)
    runs = [
        *(make_run([row(s, 0.9 - s / 2 - n / 50, batch_norm=norm) for s, norm in grid], seed=n) for n in (0, 1)),
        make_run([whole, *(row(s, 0.95, floor=0.75) for s in (0.5, 0.99))], "targeted"),
    ]
    published = [PublishedColumn("paper2_weight", "none", "weight", "accuracy", "Table 2", {"dropout": "none"})]
    made = make_table(gather(runs, {})[0], Choice(name="test", published=published))
    write_table(made, tmp_path / "out")
    same_figures_again(tmp_path / "out")


def test_of_run_reproduce(make_run: Any, row: Any, tmp_path: Path) -> None:
    plan = reproduction.Plan.of(Composer("reproduce").single(["table=paper7_resnet32_weight"])["table"])
    runs = [make_run([row(s, 0.9 - s / 5 - seed / 50) for s in (0.9, 0.98, 0.985, 0.99)], seed=seed) for seed in (0, 1)]
    rows = reproduction.rows_of(plan, [(cell, runs) for cell in plan.cells])
    about = "resnet32 on digits, fast schedule, 50ep, seed 0, 1"
    text = reproduction.markdown(plan, rows, f"{about}; some machine.")
    reproduction.write(tmp_path / "out", plan, rows, text, about)
    same_figures_again(tmp_path / "out")


def test_of_run_scree(tmp_path: Path) -> None:
    rows = [
        {"column": column, "place": place, "k": k, "n": 4, "split": split, "metric": "mse", "value": 1 / k + place / 10}
        for column in ("tail", "none", "PCA")
        for place in (1, 2)
        for k in (1, 2, 4)
        for split in ("validation", "test")
    ]
    rows = [{**one, "place": f"decoder.{one['place']}"} for one in rows]
    wide, choosing = report.table(rows, "tail"), report.Choosing(MSE, 0.01)
    chosen = report.choices(wide, choosing)
    for name, frame in (("table", wide), ("choices", chosen)):
        write_frame(tmp_path / f"{name}.csv", frame)
    write_text(tmp_path / "table.md", report.markdown(wide, chosen, choosing, "tail"))
    report.figures(wide, chosen, choosing, "tail", tmp_path)
    same_figures_again(tmp_path)


def test_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No such file or directory: table\.csv"):
        redraw(tmp_path)
    for name, text in (("table.csv", "a,b\n1,2\n"), ("table.md", "# a\n")):
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="expected a table of run table, run reproduce or run scree"):
        redraw(tmp_path)
