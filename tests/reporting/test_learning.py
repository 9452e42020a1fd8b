"""learning.png, which accompanies a table and shows the learning curves of its runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runner.errors import DamagedRun
from runner.files import write_rows
from runner.reporting.choice import Choice
from runner.reporting.gather import gather
from runner.reporting.learning import learning_curves, read_metrics
from runner.reporting.sections import Table
from runner.reporting.table import make_table
from runner.reporting.writing import write_table
from runner.runs import Run, metrics_columns

Make = Callable[..., Any]


@pytest.fixture
def learned(make_run: Make, row: Make) -> Callable[..., Run]:
    """A run that improved in each of its epochs."""

    def make(dropout: str = "none", seed: int = 0, epochs: int = 3) -> Run:
        run = make_run([row(0.5, 0.9)], dropout, seed=seed)
        columns = metrics_columns(["accuracy"])
        rows = [
            {name: 0.5 ** (epoch + seed) if "loss" in name else epoch / 10 for name in columns} | {"epoch": epoch}
            for epoch in range(1, epochs + 1)
        ]
        write_rows(run.metrics_file, columns, rows)
        return run

    return make


def table(runs: list[Run]) -> Table:
    return make_table(gather(runs, {})[0], Choice(name="test"))


def test_curves_are_means_over_seeds_by_epoch(learned) -> None:
    rows = learning_curves(read_metrics([learned(), learned(seed=1, epochs=2)]), "train_loss")
    assert rows["epoch"].tolist() == [1, 2, 3]
    assert rows["mean"].tolist() == [0.375, 0.1875, 0.125]
    assert rows["std"].iloc[0] == pytest.approx(0.125 * 2**0.5)
    assert learning_curves(read_metrics([learned("targeted")]), "train_bleu").empty


def test_a_panel_a_metric_and_a_curve_a_column(learned, tmp_path, monkeypatch) -> None:
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **how: (figures.append(self), save(self, *args, **how)))
    paths = write_table(table([learned(), learned(seed=1), learned("targeted")]), tmp_path / "out")
    assert [path.name for path in paths[-2:]] == ["learning.png", "learning.svg"]
    assert all(path.stat().st_size > 10_000 for path in paths[-2:])
    axes: list[Axes] = figures[0].axes
    assert [one.get_ylabel() for one in axes] == [
        *("train loss", "validation loss", "train accuracy (%)", "validation accuracy (%)")
    ]
    assert [one.get_yscale() for one in axes] == ["log", "log", "linear", "linear"]
    (none, targeted) = axes[2].lines
    assert [none.get_label(), targeted.get_label()] == ["none", "targeted"]
    assert list(none.get_ydata()) == pytest.approx([10, 20, 30])
    assert (none.get_color(), none.get_marker()) != (targeted.get_color(), targeted.get_marker())


def test_runs_that_do_not_tell_have_no_figure(make_run: Make, row: Make, tmp_path: Path) -> None:
    paths = write_table(table([make_run([row(0.5, 0.9)])]), tmp_path / "out")
    assert not any(path.stem == "learning" for path in paths)


def test_damage_is_named(learned) -> None:
    run = learned()
    run.metrics_file.write_text("epoch,train_loss\n1,much\n")
    with pytest.raises(DamagedRun, match=r"metrics\.csv is damaged"):
        read_metrics([run])
