"""Help, versions, and the response to words that are not understood."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runner import __version__
from runner.config.compose import Composer
from runner.config.paths import CONF
from runner.config.rules import leaves
from runner.help import COMMANDS, help_of

IMPORTED = """
import sys
from runner.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert ended.code == {code}, ended.code
print(*sorted({{name.partition(".")[0] for name in sys.modules}}), file=sys.stderr)
"""


def imported_by(*words: str, cwd: Path, code: int = 0) -> set[str]:
    """Return the packages that a command has imported by the time it ends."""
    script = IMPORTED.format(code=code)
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=cwd, capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_overview_names_every_command_with_lines_to_copy(words, call):
    result = call(*words)
    assert result.code == 0
    assert all(f"run {name}" in result.out for name in COMMANDS)
    assert "\n  run train model=resnet32 dropout=targeted\n" in result.out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_lines_to_copy(name, call):
    result = call(name, "--help")
    assert result.code == 0
    assert result.out.startswith(f"run {name}")
    assert f"\n  run {name}" in result.out, "a line to copy"
    assert call(name, "seed=1", "-h") == result, "wherever the flag stands"


def test_experiments_on_data_that_must_be_there_name_it():
    lines = [line.strip() for name in COMMANDS for line in help_of(name).splitlines()]
    examples = [line for line in lines if line.startswith("run train ") and ("experiment=" in line or "=cifar" in line)]
    assert len(examples) >= 3
    assert all(" data.root=" in line for line in examples), examples


def test_version(call):
    assert call("--version").out == f"run {__version__}\n"


def test_help_imports_nothing_that_takes_time(tmp_path):
    for words in ([], ["train", "--help"]):
        assert not imported_by(*words, cwd=tmp_path) & {"torch", "hydra", "numpy", "pandas", "matplotlib"}


def test_checking_a_configuration_imports_no_torch(tmp_path):
    for words in (["dropout=targeted", "dropout.alfa=0.5"], ["-m", "seed=0,-1"], ["model=resnet33"]):
        assert "torch" not in imported_by("train", *words, cwd=tmp_path, code=2)
    assert "torch" not in imported_by("list", cwd=tmp_path)
    assert "torch" not in imported_by("list", "runs", cwd=tmp_path)


def test_head_may_close_the_pipe(tmp_path):
    line = f"{sys.executable} -m runner train --help | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [help_of("train").splitlines()[0], "0"]
    assert done.stderr == ""


def test_a_closed_pipe_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "runner"], cwd=tmp_path, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_letters_that_a_terminal_lacks(command):
    result = command("--help", PYTHONIOENCODING="ascii")
    assert result.code == 0
    assert "mean ? deviation" in result.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["xyz"], f"unknown command 'xyz'; expected one of {', '.join(COMMANDS)}; run --help explains"),
        (["--frobnicate"], "unknown command '--frobnicate'"),
        (["train", "--frobnicate"], "there is no flag --frobnicate"),
        (["list", "-m"], "run list has no -m"),
        (["prune", "--cfg", "job"], "run prune has no --cfg; run train has"),
        (["report", "-c", "job"], "run report has no -c; run train has"),
        (
            ["coadapt", "limit=5"],
            "run coadapt needs a run folder: run coadapt outputs/train/cifar10-mlp-* layers",
        ),
        (["show"], "run show needs a run folder"),
        (["bench", "step"], "'step' is not understood: options are written name=value (step=…)"),
        (["table", "--estimate"], "run table has no --estimate; run reproduce has"),
        (["prune"], "run prune needs a run folder"),
        (["prune", "prune.scores=random"], "run prune needs a run folder"),
        (["list", "a=b"], "a=b: run list has no options"),
    ],
)
def test_words_that_are_no_command(words, expected, call, tmp_path):
    result = call(*words)
    assert result.code == 2
    assert result.err.startswith("run: ")
    assert expected in result.err
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []


def test_hydra_shows_a_composed_configuration(command, tmp_path):
    result = command("train", "--cfg", "job", "dropout=targeted", "dropout.alpha=0.5")
    assert result.code == 0
    assert "alpha: 0.5" in result.out
    assert list(tmp_path.iterdir()) == [], "nothing is run"


def test_help_of_the_table_names_what_is_shown(call):
    out = call("table", "--help").out
    assert all(f"table.{option}=" in out for option in ("floor", "metric", "split"))


def options_of(text: str) -> set[str]:
    """Return the names that a help text lists with a default."""
    return {line.split("=")[0].strip() for line in text.splitlines() if line.startswith("  ") and "=" in line}


@pytest.mark.parametrize("name", [name for name in COMMANDS if (CONF / f"{name}.yaml").exists()])
def test_every_option_of_a_command_stands_in_its_help_with_its_default_and_its_comment(name):
    text = help_of(name)
    composed = Composer(name).single(["sparsity=0.5"] if name == "compact" else [])
    own = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    names = {option for option, _ in leaves({key: composed[key] for key in own if key in composed and key != "table"})}
    assert {option for option in names if not option.endswith((".name", "_target_"))} <= options_of(text)
    assert all(len(line) <= 120 for line in text.splitlines())
    for line in text.splitlines():
        option, separator, rest = line.strip().partition("=")
        if separator and option in names and rest.split()[0] not in ("null", "auto") and "." not in option:
            assert yaml.safe_load(rest.split()[0]) == own[option], "as one word"
    assert (
        "null: where it was when the run was trained" in " ".join(text.split())
        or "data:\n  root:" not in (CONF / f"{name}.yaml").read_text()
    )
