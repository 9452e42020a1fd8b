"""The examples of docs/extending.md, run as they are: in a user's folder, and in the project."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runner.cli import main
from runner.config.compose import CONF
from runner.files import read_rows
from runner.runs import Run

ROOT = Path(__file__).parent.parent
PAGES = {"docs/extending.md": ["mine", "l1_norm", "tiny", "squares", "focal"]}
PACKAGES = {"dropout": "dropout", "model": "models", "data": "data", "task": "tasks"}
FOLDERS = {**PACKAGES, "criterion": "pruning/criteria"}
SMALL = ["debug=smoke", "data.validation=0.2", "prune.sparsities=[0,0.5]", "prune.splits=[test]", "model.blocks=1"]


def files_of(page):
    """Return path below the user's folder → content, for the page's code blocks that name a path in my/."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"`my/([\w/]+\.(?:py|yaml))`:\n\n```(?:python|yaml)\n(.*?)```", text, re.S)
    assert {Path(name).stem for name, _ in blocks} == set(PAGES[page])
    return dict(blocks)


def commands_of(page):
    """Return the words of the page's commands that use the folder."""
    lines = re.findall(r"^run (train .*--config-dir my)$", (ROOT / page).read_text(), re.M)
    return [shlex.split(line) for line in lines]


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Create a folder my/ with all examples in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for page in PAGES:
        write(tmp_path / "my", files_of(page))
    yield tmp_path / "my"
    for name in {name for names in PAGES.values() for name in names}:
        sys.modules.pop(name, None)


def small(words):
    """Shorten a command to seconds, leaving out options that a choice in the command does not have."""
    chosen = " ".join(words)
    return [*words, *(word for word in SMALL if not (word.startswith("model.") and "model=" in chosen))]


def run(*words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


@pytest.mark.parametrize("words", [words for page in PAGES for words in commands_of(page)], ids=" ".join)
def test_the_examples_work_from_a_folder_of_ones_own(words, own, capsys):
    assert run(*small(words), "folder=run") == 0, capsys.readouterr().err
    finished = Run(own.parent / "run")
    assert finished.state() == "finished"
    for option in words:
        group, _, choice = option.partition("=")
        if group in PACKAGES and (own / group / f"{choice}.yaml").exists():
            assert finished.config()[group]["_target_"].startswith(f"{choice}.")
            # debug=smoke applies to the package's own models; options of a user's model are not changed.
            stored = {key: value for key, value in finished.config()[group].items() if key != "name"}
            assert stored == yaml.safe_load((own / group / f"{choice}.yaml").read_text()) | (
                {"alpha": 0.1} if choice == "mine" else {"validation": 0.2} if choice == "squares" else {}
            )


@pytest.mark.slow
def test_the_examples_work_as_a_part_of_the_project(tmp_path):
    """The same files in a copy of the project, with the `_target_` given on the page."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "runner", project / "runner", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CONF, project / "conf")
    for page in PAGES:
        files = files_of(page)
        for name in [name for name in files if name.endswith(".yaml")]:
            group, stem = Path(name).parent.name, Path(name).stem
            target = re.sub("_target_: ", f"_target_: runner.{FOLDERS[group].replace('/', '.')}.", files[name])
            write(project, {f"runner/{FOLDERS[group]}/{stem}.py": files[f"{stem}.py"], f"conf/{name}": target})
    words = ["train", "dropout=mine", "model=tiny", "data=squares", "task=focal", "prune.criterion=l1_norm"]
    words += [*SMALL[:-1], "folder=run"]
    done = subprocess.run(
        [sys.executable, "-m", "runner", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    config = Run(tmp_path / "run").config()
    assert [config[group]["_target_"] for group in PACKAGES] == [
        *("runner.dropout.mine.Mine", "runner.models.tiny.Tiny"),
        *("runner.data.squares.Squares", "runner.tasks.focal.Focal"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("import torch\n", "import nonsense_of_mine\n", "ModuleNotFoundError: No module named 'nonsense_of_mine'"),
        ("class Mine(", "class Mine(:", "SyntaxError: "),
        ("WeightVariant):", "WeightVariants):", "NameError: name 'WeightVariants' is not defined"),
        ("self.alpha = fraction", "self.alpha = nothing.fraction", "NameError: name 'nothing' is not defined"),
        ("Noise(self.alpha)", "Noise(self.beta)", "AttributeError: 'Mine' object has no attribute 'beta'"),
        ("self.alpha**0.5", "self.alpha.root", "RuntimeError: AttributeError: 'float' object has no"),
        ("torch.randn_like(weight)", "torch.randn(7)", "RuntimeError: The size of tensor a"),
    ],
    ids=["import", "syntax", "class", "constructor", "attaching", "forward", "library"],
)
def test_an_error_in_a_users_file_is_a_line_that_names_file_and_line(old, new, said, own, capsys):
    file = own / "mine.py"
    assert old in file.read_text()
    text = file.read_text().replace(old, new)
    file.write_text(text)
    line = text[: text.index(new)].count("\n") + 1
    code = run("train", "dropout=mine", "--config-dir", "my", *SMALL, "folder=run")
    shown = capsys.readouterr().err.splitlines()
    lines = [line for line in shown if line.startswith("run: ")]
    assert code in (1, 2)
    assert len(lines) == 1
    assert f"{file}, line {line}: {said}" in lines[0]
    assert not any("Traceback" in line for line in shown)
    if said.startswith("RuntimeError"):  # found only in training
        assert "Traceback" in (own.parent / "run" / "run.log").read_text()
    else:
        assert not (own.parent / "run" / "status.json").exists()


def test_a_model_that_fails_on_the_data_is_such_a_line_too(own, capsys):
    file = own / "tiny.py"
    file.write_text(file.read_text().replace("x.mean((2, 3))", "x.flatten(1)"))
    assert run("train", "model=tiny", "data=squares", "--config-dir", "my", *SMALL[:-1], "folder=run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    number = file.read_text().splitlines().index("        return self.logits(x.flatten(1))") + 1
    assert f"{file}, line {number}: RuntimeError: mat1 and mat2" in line
    assert not (own.parent / "run").exists()


def test_a_users_value_that_is_refused_is_named_as_the_option(own, capsys):
    assert run("train", "dropout=mine", "dropout.alpha=2", "--config-dir", "my", *SMALL) == 2
    assert capsys.readouterr().err == "run: dropout.alpha=2: expected a number from 0 to 1\n"


def test_smoke_leaves_the_width_of_a_users_own_model_alone(own, capsys):
    """In the package's models width is a factor; in a user's model it may mean anything or be missing."""
    for name in ("tiny.py", "model/tiny.yaml"):
        (own / name).write_text((own / name).read_text().replace("hidden", "width"))
    words = ["train", "model=tiny", "data=squares", "--config-dir", "my", *SMALL[:-1]]
    for more, width in (([], 16), (["model.width=3"], 3)):
        assert run(*words, *more, f"folder={width}") == 0, capsys.readouterr().err
        assert Run(own.parent / str(width)).config()["model"]["width"] == width
    assert run("train", "model=mlp", "debug=smoke", "folder=narrow") == 0, capsys.readouterr().err
    assert run("train", "model=mlp", "debug=smoke", "model.width=0.5", "folder=half") == 0, capsys.readouterr().err
    assert [Run(own.parent / name).config()["model"]["width"] for name in ("narrow", "half")] == [0.25, 0.5]


def test_first_and_last_layer_of_a_users_model_are_those_of_the_computation(own, capsys):
    """Independent of the order in which the model registers them."""
    file = own / "tiny.py"
    lines = file.read_text().splitlines(keepends=True)
    logits = next(line for line in lines if "self.logits = " in line)
    stem = lines.index(next(line for line in lines if "self.stem = " in line))
    lines.remove(logits)
    file.write_text("".join([*lines[:stem], logits, *lines[stem:]]))
    words = ["model=tiny", "data=squares", "dropout=targeted", "--config-dir", "my", *SMALL[:-1], "folder=run"]
    assert run("train", *words) == 0, capsys.readouterr().err
    assert {row["prunable_weights"] for row in read_rows(Run(own.parent / "run").pruning_file)} == {str(16 * 16 * 9)}
