"""CSV, Markdown, LaTeX and figure of one table, read back."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.image import imread

from runner.reporting.choice import Choice, PublishedColumn
from runner.reporting.drawing import STYLES
from runner.reporting.gather import gather
from runner.reporting.sections import Table
from runner.reporting.table import make_table
from runner.reporting.writing import cells, latex, markdown, write_table

Make = Callable[..., Any]

CELLS = [
    ["sparsity", "none", "paper: none", "targeted_unit"],
    ["50 %", "91.00 ± 1.41", "92.20", "95.00"],
    ["98.5 %", "10.00", "–", "–"],
    ["seeds", "1–2", "–", "1"],
]


@pytest.fixture
def table(make_run: Make, row: Make) -> Table:
    runs = [
        make_run([row(0.5, 0.90), row(0.985, 0.1)]),
        make_run([row(0.5, 0.92)], seed=1),
        make_run([row(0.5, 0.95, floor=0.75)], "targeted_unit"),
    ]
    published = [PublishedColumn("paper2_weight", "none", "weight", "accuracy", "Table 2", {"dropout": "none"})]
    choice = Choice(name="test", published=published)
    return make_table(gather(runs, {})[0], choice)


def test_cells_are_percent_with_deviation_and_seeds(table: Table) -> None:
    assert cells(table.sections[0], table.metric) == CELLS


def test_markdown_read_again(table: Table) -> None:
    lines = [line for line in markdown(table).splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1  # aligned, so that it is readable in a terminal
    read = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [read[0], *read[2:]] == CELLS
    assert all(set(cell) == {"-", ":"} for cell in read[1])


def test_markdown_says_what_it_shows(table: Table) -> None:
    text = markdown(table)
    assert text.startswith("## test accuracy (%), digits · resnet32 · 50ep\n")
    assert "### weights pruned, BatchNorm kept" in text
    assert "\n- targeted_unit: rows below 75 %" in text


def test_latex_read_again(table: Table) -> None:
    text = latex(table)
    body = re.search(r"\\toprule\n(.*)\\bottomrule", text, re.DOTALL)
    assert body
    rows = [line.removesuffix(r" \\").split(" & ") for line in body[1].splitlines() if line != r"\midrule"]
    plain = {r"$\pm$": "±", r"\%": "%", r"\_": "_", "--": "–"}
    assert [[_replaced(cell, plain) for cell in cells_] for cells_ in rows] == CELLS
    assert text.count(r"\begin{tabular}{rrrr}") == text.count(r"\end{tabular}") == 1
    # Only standard LaTeX, and no unescaped characters that it reads as commands.
    assert set(re.findall(r"\\([a-z]+)", text)) <= {
        *("usepackage", "begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule"),
        *("pm", "cdot", "gamma"),
    }
    assert not re.search(r"(?<!\\)[_#]", text)
    assert text.isascii()


def test_csv_read_again(table: Table, tmp_path: Path) -> None:
    write_table(table, tmp_path / "out")
    read = pd.read_csv(tmp_path / "out" / "table.csv")
    found = read.set_index(["column", "sparsity"])
    assert found.loc[("none", 0.5), "mean"] == pytest.approx(0.91)
    assert found.loc[("none", 0.5), "std"] == pytest.approx(0.0002**0.5)
    assert list(read["n"].dropna()) == [2, 1, 1]
    assert found.loc[("targeted_unit", 0.5), ["floor", "actual_sparsity"]].tolist() == [0.75, 0.749]
    assert found.loc[("paper: none", 0.5), "source"] == "paper2_weight: none"
    assert set(read["metric"]) == {"accuracy"}


def test_figure_is_a_picture_and_the_same_one_again(table: Table, tmp_path: Path) -> None:
    first, second = (write_table(table, tmp_path / name)[-2:] for name in ("a", "b"))
    assert [path.name for path in first] == ["table.png", "table.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    picture: Any = imread(first[0])
    assert picture.shape[0] > 400
    assert picture[..., :3].std() > 0.05  # not blank
    assert first[1].read_text().count("<path") > 20


def test_figures_have_a_white_ground_on_any_page(table: Table, tmp_path: Path) -> None:
    with rc_context({"savefig.facecolor": "none", "figure.facecolor": "black", "savefig.transparent": False}):
        png, svg = write_table(table, tmp_path / "out")[-2:]
    picture: Any = imread(png)
    assert picture[0, 0, :3].tolist() == [1, 1, 1]
    assert picture.shape[2] == 3 or (picture[..., 3] == 1).all()
    ground = ElementTree.parse(svg).getroot().find(".//{*}g[@id='patch_1']/{*}path")
    assert ground is not None and "fill: #ffffff" in ground.attrib["style"]


def test_a_loss_is_not_percent(make_run: Make, row: Make, tmp_path: Path) -> None:
    measured, _ = gather([make_run([row(0.5, 0.9, loss=0.12344)])], {})
    made = make_table(measured, Choice(name="test", metric="loss"))
    assert cells(made.sections[0], made.metric)[1] == ["50 %", "0.1234"]
    assert "## test loss, digits" in markdown(made)
    assert write_table(made, tmp_path / "out")[-1].stat().st_size > 0


def test_columns_that_nobody_could_tell_apart_are_not_drawn(make_run: Make, row: Make, tmp_path: Path) -> None:
    runs = [make_run([row(0.5, 0.9)], **{"schedule.learning_rate": 0.01 * rate}) for rate in range(1, STYLES + 2)]
    few, many = (make_table(gather(some, {})[0], Choice(name="test")) for some in (runs[:-1], runs))
    write_table(few, tmp_path / "out")
    assert (tmp_path / "out" / "table.svg").exists()
    written = write_table(many, tmp_path / "out")
    assert [path.name for path in written] == ["table.csv", "table.md", "table.tex"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    assert "No figures: 33 columns, of which 32 can be distinguished" in markdown(many)
    assert "No figures" not in markdown(few)


def _replaced(text: str, pairs: dict[str, str]) -> str:
    for before, after in pairs.items():
        text = text.replace(before, after)
    return text
