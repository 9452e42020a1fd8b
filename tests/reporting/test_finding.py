"""Runs are found by options, state and results, and can be shown, compared and cleaned up."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.commands.clean import main as clean
from runner.commands.diff import main as diff
from runner.commands.list import main as list_
from runner.commands.show import main as show
from runner.completion import complete, script
from runner.errors import ConfigError
from runner.runs import Run

Make = Callable[..., Any]


@pytest.fixture
def three(make_run: Make, row: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    monkeypatch.chdir(tmp_path)
    runs = [
        make_run(
            [row(0.0, 0.95), row(0.9, 0.5), row(0.9, 0.6, batch_norm="recalibrated")], folder=tmp_path / "o" / "a"
        ),
        make_run([row(0.0, 0.9), row(0.9, 0.8, floor=0.75)], "targeted", folder=tmp_path / "o" / "b"),
        make_run(state="failed", seed=1, folder=tmp_path / "o" / "c"),
    ]
    runs[1].write_status(note="the good one", command="run train dropout=targeted")
    runs[2].write_status(error="UserError: no")
    return runs


def names(capsys: Any, *words: str) -> list[str]:
    assert list_(["runs", "o"], [*words, "format=csv"]) == 0
    return [Path(line["folder"]).name for line in csv.DictReader(capsys.readouterr().out.splitlines())]


def test_filters_and_order(three: list[Run], capsys: Any) -> None:
    assert names(capsys) == ["a", "b", "c"]
    assert names(capsys, "dropout=targeted") == ["b"]
    assert names(capsys, "dropout=targeted,none", "state=finished") == ["a", "b"]
    assert names(capsys, "dropout.alpha=0.66") == ["b"]
    assert names(capsys, "dropout.alpha=0.5") == []
    assert names(capsys, "state=failed,damaged") == ["c"]
    assert names(capsys, "sort=accuracy@0.9") == ["b", "a", "c"]
    assert names(capsys, "sort=accuracy@0") == ["a", "b", "c"]
    assert names(capsys, "sort=loss@0.9") == ["b", "a", "c"], "the lowest is the best"


def test_formats_hold_results_and_notes(three: list[Run], capsys: Any) -> None:
    list_(["runs", "o"], ["format=json"])
    a, b, c = json.loads(capsys.readouterr().out)
    assert (a["state"], a["config"]["dropout.name"], b["note"]) == ("finished", "none", "the good one")
    assert a["results"][1]["accuracy"] == 0.5 and a["results"][1]["sparsity"] == 0.9
    assert (c["error"], c["results"]) == ("UserError: no", [])
    list_(["runs", "o"], ["format=csv"])
    first, second, _ = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (first["accuracy@0.9"], second["accuracy@0.9"], second["dropout.alpha"]) == ("0.6", "0.8", "0.66")
    list_(["runs", "o"], [])
    assert "note: the good one" in capsys.readouterr().out.splitlines()[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("dropuot=none", "dropuot: no run has such an option; did you mean dropout"),
        ("state=finshed", r"state=\[finshed\]: expected a list of finished"),
        ("format=xml", "format=xml: expected text, json, csv"),
        ("sort=accuracy", "sort=accuracy: expected folder, .* METRIC@SPARSITY"),
        ("sort=bleu@0.9", "sort=bleu@0.9: no run was measured so"),
    ],
)
def test_bad_words_are_named(three: list[Run], words: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        list_(["runs", "o"], [words])


def test_show_tells_what_and_how_to_go_on(three: list[Run], capsys: Any) -> None:
    assert show(["o/b"], []) == 0
    out = capsys.readouterr().out
    for text in ("targeted · 50ep · seed 0: finished", "the good one", "80.00", "run compact o/b"):
        assert text in out
    three[2].write_status(command="run train seed=1")
    show(["o/c"], [])
    assert "UserError: no" in (out := capsys.readouterr().out)
    assert out.splitlines()[-1].endswith(": run train seed=1")


def test_diff_of_options_and_results(three: list[Run], capsys: Any) -> None:
    assert diff(["o/a", "o/b"], []) == 0
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert ["dropout.name", "none", "targeted"] in cells
    assert ["dropout.alpha", "–", "0.66"] in cells
    assert ["weight", "kept", "90 %", "50.00", "80.00", "+30.00"] in cells
    assert ["weight", "kept", "unpruned", "95.00", "90.00", "-5.00"] in cells
    assert not any(row[0] == "data.name" for row in cells)
    with pytest.raises(ConfigError, match="o holds 3 runs"):
        diff(["o", "o/a"], [])


def test_clean_asks_and_deletes_no_more(three: list[Run], capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = three
    a.checkpoint_file.write_bytes(b"x")
    (c.folder / "mine.txt").write_text("kept")
    assert clean(["o"], []) == 0  # no user is there to be asked
    out = capsys.readouterr().out
    assert "o/a: its checkpoint" in out and "o/c: the failed run" in out and "o/b" not in out
    assert a.checkpoint_file.exists() and c.status_file.exists()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda text: "n")
    clean(["o"], [])
    assert a.checkpoint_file.exists()

    def ended(text: str) -> str:  # Ctrl-D
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    assert clean(["o"], []) == 0
    assert a.checkpoint_file.exists()
    with c.locked():
        clean(["o"], ["yes=true"])
    assert not a.checkpoint_file.exists() and a.status_file.exists()
    assert c.status_file.exists(), "in use"
    clean(["o"], ["yes=true"])
    assert [path.name for path in c.folder.iterdir()] == ["mine.txt"]
    assert b.pruning_file.exists()


def test_completion() -> None:
    assert "train " in complete("run tr") and "table " in complete("run t")
    assert complete("run list dropo") == ["dropout "]
    assert "targeted_unit" in complete("run train dropout=targeted")
    assert complete("run train model=x dropout=none,rigl") == ["none,rigl"]
    assert "dropout.alpha=" in complete("run train dropout=targeted dropout.")
    assert complete("run list runs state=fin") == ["finished"]
    assert {"dropout=", "seed="} <= set(complete("run train "))
    assert complete("run nonsense x") == []


def test_completion_in_bash_imports_nothing_slow(tmp_path: Path) -> None:
    program = f"{sys.executable} -X importtime -m runner"
    text = script("bash", f"env 2>>{tmp_path}/imported {program}").replace("2>/dev/null", f"2>{tmp_path}/imported")
    ask = "COMP_LINE='run train dropout=rig'; COMP_POINT=${#COMP_LINE}; _run_complete; echo ${COMPREPLY[0]}"
    done = subprocess.run(["bash", "-c", f"{text}\n{ask}"], capture_output=True, text=True, check=True)
    assert done.stdout == "rigl\n", done.stderr
    imported = {line.rpartition("|")[2].strip() for line in (tmp_path / "imported").read_text().splitlines()}
    assert "runner.completion" in imported
    assert not imported & {"torch", "hydra", "pandas", "numpy"}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_completion_in_zsh() -> None:
    text = script("zsh", f"{sys.executable} -m runner")
    # zsh's bashcompinit sets these variables and calls the function when TAB is pressed.
    ask = "COMP_LINE='run train dropout=rig'; COMP_POINT=${#COMP_LINE}; _run_complete; print -r -- ${COMPREPLY[1]}"
    setup = "autoload -U compinit && compinit -u -D"
    done = subprocess.run(["zsh", "-f", "-c", f"{setup}\n{text}\n{ask}"], capture_output=True, text=True, check=True)
    assert done.stdout == "rigl\n", done.stderr
