"""run table, from the words of the command to its files."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from runner.commands.table import main as table
from runner.config.compose import CONF, Composer, options
from runner.errors import ConfigError, UserError
from runner.reporting.choice import Choice

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_gathers_finished_runs_and_names_the_others(
    make_run: Make, row: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        make_run([row(0.5, 0.9)], seed=seed)
    failed, interrupted = make_run(seed=2, state="failed"), make_run([row(0.5, 0.1)], seed=3, state="running")
    assert table([], []) == 0
    said = capsys.readouterr().out
    assert f"{failed.folder.relative_to(tmp_path)} (failed)" in said
    assert f"{interrupted.folder.relative_to(tmp_path)} (interrupted)" in said
    assert "| 90.00 ± 0.00 |" in said
    folder = Path("outputs/table/summary")
    assert sorted(path.name for path in folder.iterdir()) == [
        f"table.{ending}" for ending in ("csv", "md", "png", "svg", "tex")
    ]
    assert pd.read_csv(folder / "table.csv")["n"].tolist() == [2]
    assert (folder / "table.md").read_text() in said


def test_folders_and_options(make_run: Make, row: Make, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = make_run([row(0.5, 0.9), row(0.5, 0.3, granularity="unit"), row(0.9, 0.2, granularity="unit")])
    make_run([row(0.5, 0.7, granularity="unit")], "targeted")
    words = ["table.granularity=unit", "table.batch_norm=kept", "table.sparsities=[0.5]", "out=here"]
    assert table([str(chosen.folder)], words) == 0
    assert pd.read_csv("here/table.csv")["mean"].tolist() == [0.3]
    assert table([], ["+table.runs.dropout.alpha=0.66", "table.granularity=unit", "out=here"]) == 0
    assert pd.read_csv("here/table.csv")["mean"].tolist() == [0.7]
    assert table([], ["table.runs={dropout: [none]}", "table.granularity=unit", "out=here"]) == 0
    assert pd.read_csv("here/table.csv")["mean"].tolist() == [0.3, 0.2]
    assert not Path("outputs/table").exists()


def test_cifar10_stands_beside_the_paper(make_run: Make, row: Make, capsys: pytest.CaptureFixture[str]) -> None:
    cifar = {"data.name": "cifar10", "model.name": "resnet32_he"}
    weight, unit = ([row(s, 0.5, granularity=g) for s in (0.5, 0.9)] for g in ("weight", "unit"))
    make_run([*weight, *unit], **cifar)
    make_run(weight, "targeted", **cifar)
    make_run(weight, "ramping", **cifar)
    make_run(unit, "targeted_unit", **cifar)
    make_run(weight)
    assert table([], ["table=cifar10"]) == 0
    read = pd.read_csv("outputs/table/cifar10/table.csv").set_index(["granularity", "column", "sparsity"])["mean"]
    assert read["weight", "paper: none", 0.5] == pytest.approx(0.9220)
    assert read["weight", "paper: targeted", 0.9] == pytest.approx(0.6758)
    assert read["weight", "paper: ramping", 0.9] == pytest.approx(0.8903)
    assert read["unit", "paper: none", 0.5] == pytest.approx(0.1263)
    assert read["unit", "paper: targeted_unit", 0.5] == pytest.approx(0.9005)
    assert list(read["weight"].index.unique(0)) == [
        *("none", "paper: none", "targeted", "paper: targeted", "ramping", "paper: ramping")
    ]


def test_the_figure_over_what_networks_cost(
    make_run: Make, row: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("runner.reporting.writing.draw", lambda panels, *rest: drawn.append((panels, rest[-1])))
    sizes = {0.0: 4000, 0.5: 2000, 0.9: 400}
    make_run([row(s, 0.9 - s / 2, bytes=size, flops=2 * size, parameters=size / 4) for s, size in sizes.items()])
    floored = [row(s, 0.8, floor=0.75, bytes=1000) for s in (0, 0.5)]
    make_run([row(0, 0.95, bytes=4000), *floored, row(0.9, 0.7, floor=0.75, bytes=400)], "targeted")
    assert table([], ["table.x=bytes", "out=over_bytes"]) == 0
    [([panel], label)] = drawn
    assert label == "bytes"
    assert [(curve.label, curve.x, curve.y) for curve in panel.curves] == [
        ("none", [400, 2000, 4000], pytest.approx([45, 65, 90])),
        ("targeted", [400, 1000, 4000], pytest.approx([70, 80, 95])),  # below the floor, all are the same network
    ]
    assert pd.read_csv("over_bytes/table.csv")["bytes"].tolist()[:3] == [4000, 2000, 400]
    assert " 50 % |" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"table\.x=flops: the sweeps of these runs have no flops; delete"):
        table([], ["table.x=flops", "table.runs={dropout: targeted}"])


def test_a_figure_over_bytes_is_drawn(make_run: Make, row: Make) -> None:
    make_run([row(s, 0.9, bytes=1e6 * (1 - s)) for s in (0, 0.5, 0.9)])
    assert table([], ["table.x=bytes", "out=here"]) == 0
    assert Path("here/table.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", options("table"))
def test_every_table_file_is_a_choice_of_its_name(name: str) -> None:
    choice = Choice.of(Composer("table").single([f"table={name}"])["table"])
    assert choice.name == name
    for column in choice.published:
        if dropout := column.runs.get("dropout"):
            assert (CONF / "dropout" / f"{dropout}.yaml").exists()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("table.granularity=layers", r"table.granularity=layers: expected auto, weight, unit"),
        ("table.split=dev", r"table.split=dev: expected train, validation, test"),
        ("table.batch_norm=none", r"table.batch_norm=none: expected kept, recalibrated"),
        ("table.batch_norm=[kept,no]", r"table.batch_norm=\[kept,no\]: expected .*a list of kept, recalibrated"),
        ("table.scope=all", r"table.scope=all: expected auto, layer, uniform, erk, global"),
        ("table.scores=best", r"table.scores=best: expected own, magnitude, random"),
        ("table.floor=1.5", r"table.floor=1.5: expected auto or a number from 0 to 1"),
        ("table.sparsities=[1.5]", r"table.sparsities=\[1.5\]: expected null or a list of a number from 0 to 1"),
        ("table.sparsities=abc", r"table.sparsities=abc: expected null or a list"),
        ("table.runs=abc", r"table.runs=abc: expected null or a mapping"),
        ("table.published={paper2_wieght: {}}", r"nothing is published as paper2_wieght; did you mean paper2_weight\?"),
        ("table.published={paper2_weight: {}}", r"table.published.paper2_weight: expected keys"),
        ("table.metric=bleu", r"table.metric=bleu: expected auto, accuracy, loss"),
        ("table=sumary", r"table=sumary: unknown; did you mean summary\?"),
        ("table.granularty=unit", r"there is no option table.granularty; did you mean table.granularity\?"),
        ("+table.runs.droput=none", r"no run has an option droput; did you mean dropout\?"),
    ],
)
def test_bad_words_are_named_and_nothing_is_written(make_run: Make, row: Make, word: str, said: str) -> None:
    make_run([row(0.5, 0.9)])
    with pytest.raises(ConfigError, match=said):
        table([], [word])
    assert not Path("outputs/table").exists()


@pytest.mark.parametrize(
    "words",
    [
        "{granularity: weight, metric: accuracy, about: x, columns: {nonne: {dropout: none}}}",
        "{granularity: weight, metric: accuracy, about: x, columns: {none: none}}",
        "{granularity: weight, metric: accuracy, about: x, columns: none}",
    ],
)
def test_a_bad_published_column_is_named(make_run: Make, row: Make, words: str) -> None:
    make_run([row(0.5, 0.9)])
    with pytest.raises(ConfigError, match=r"table.published.paper2_weight.columns"):
        table([], [f"table.published={{paper2_weight: {words}}}"])


def test_without_runs(make_run: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no run under outputs/ yet; run train"):
        table([], [])
    with pytest.raises(ConfigError, match="nowhere is not a folder"):
        table(["nowhere"], [])
    make_run(state="failed")
    with pytest.raises(ConfigError, match=r"no finished run .*left out, not finished: .*\(failed\)"):
        table([], [])


def test_smoke_runs_stand_in_no_table_of_results(make_run: Make, row: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make_run([row(0.5, 0.1)], folder=Path("outputs/smoke/train/x/seed0"), limit=200)
    with pytest.raises(ConfigError, match=r"no run under outputs/ yet; left out: 1 of debug=smoke; run table outputs="):
        table([], [])
    make_run([row(0.5, 0.9)])
    for words, mean, said in (([], 0.9, True), (["outputs=outputs/smoke"], 0.1, False)):
        assert table([], words) == 0
        assert ("left out: 1 of debug=smoke" in capsys.readouterr().out) == said
        out = Path(words[0].removeprefix("outputs=")) if words else Path("outputs")
        assert pd.read_csv(out / "table/summary/table.csv")["mean"].tolist() == [mean]


def test_tickets_stand_in_a_table_only_if_they_are_asked_for(
    make_run: Make, row: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    def columns(*words: str, folders: Sequence[str] = ()) -> tuple[list[str], bool]:
        assert table(folders, [*words, "out=here"]) == 0
        said = "left out: 2 trained by run ticket; table=tickets shows them" in capsys.readouterr().out
        return pd.read_csv("here/table.csv")["column"].tolist(), said

    masked = "runner.dropout.masked.Masked"
    make_run([row(0.5, 0.9)], **{"dropout._target_": "runner.dropout.base.Variant"})
    tickets = [
        make_run([row(0.5, 0.8)], **{"dropout._target_": masked, "dropout.name": name}, state=state)
        for name, state in (("none-ticket", "finished"), ("any-random", "failed"))
    ]
    assert columns() == (["none"], True)
    assert columns("table.runs={data: digits}") == (["none"], True)
    assert columns("table=tickets") == (["none", "none-ticket"], False)
    assert columns("table.runs={dropout: [none, none-ticket]}") == (["none", "none-ticket"], False)
    assert columns(folders=[str(tickets[0].folder)]) == (["none-ticket"], False)


def _cut_config(folder: Path) -> None:
    (folder / ".hydra" / "config.yaml").write_text("dropout: [")


def _no_dropout(folder: Path) -> None:
    (folder / ".hydra" / "config.yaml").write_text("seed: 0")


def _bad_status(folder: Path) -> None:
    (folder / "status.json").write_text("{")


def _no_headline(folder: Path) -> None:
    (folder / "status.json").write_text('{"state": "finished"}')


def _no_rows(folder: Path) -> None:
    (folder / "pruning.csv").unlink()


def _no_number(folder: Path) -> None:
    path = folder / "pruning.csv"
    path.write_text(path.read_text().replace("1849344", "many"))


def _no_column(folder: Path) -> None:
    path = folder / "pruning.csv"
    path.write_text(path.read_text().replace("actual_sparsity", "density"))


@pytest.mark.parametrize(
    "damage", [_cut_config, _no_dropout, _bad_status, _no_headline, _no_rows, _no_number, _no_column]
)
def test_a_damaged_folder_is_named_in_one_line(make_run: Make, row: Make, damage: object, tmp_path: Path) -> None:
    make_run([row(0.5, 0.9)])
    hurt = make_run([row(0.5, 0.9)], seed=1)
    damage(hurt.folder)  # type: ignore[operator]
    with pytest.raises(UserError) as raised:
        table([], [])
    assert str(hurt.folder.relative_to(tmp_path)) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_users_own_table_file(make_run: Make, row: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run([row(0.5, 0.9)])
    own = tmp_path / "mine" / "table"
    own.mkdir(parents=True)
    (own / "small.yaml").write_text("defaults: [summary, _self_]\nname: small\nsparsities: [0.5]\n")
    assert table([], ["table=small"], tmp_path / "mine") == 0
    assert Path("outputs/table/small/table.md").exists()


def test_no_torch() -> None:
    """The import would slow the command down."""
    script = "import sys, runner.commands.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
