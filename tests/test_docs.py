"""README and docs/: everything that needs a page has one, and `run` understands the commands on the pages."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml

import runner
import runner.dropout
from runner.config.compose import CONF, options
from runner.help import COMMANDS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
VARIANTS = "".join(page.read_text() for page in (DOCS / "variants").glob("*.md"))


def entries(nav):
    """Return the files in mkdocs.yml's nav."""
    for entry in nav:
        what = entry if isinstance(entry, str) else next(iter(entry.values()))
        yield from [what] if isinstance(what, str) else entries(what)


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(entries(yaml.safe_load(text)["nav"]))
    assert {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} - named == set()
    assert {name for name in named if not (DOCS / name).exists() and not (ROOT / name).exists()} == {"index.md"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page_with_its_help_text(command):
    assert f"\n<!-- show: run {command} --help -->\n" in (DOCS / "commands" / f"{command}.md").read_text()
    assert f"]({command}.md)" in (DOCS / "commands" / "index.md").read_text()


@pytest.mark.parametrize("variant", [name for name in options("dropout") if name != "none"])
def test_every_variant_has_a_place_on_one_page_and_in_the_list(variant):
    assert VARIANTS.count(f"<!-- show: conf/dropout/{variant}.yaml -->") == 1
    assert f"`{variant}`" in (DOCS / "variants" / "index.md").read_text()


@pytest.mark.parametrize("group", ["criterion", "granularity"])
def test_pruning_names_every_criterion_and_granularity(group):
    text = (DOCS / "pruning.md").read_text()
    assert [path.stem for path in (ROOT / "conf" / group).glob("*.yaml") if f"| `{path.stem}` |" not in text] == []


@pytest.mark.parametrize("package", [runner, runner.dropout], ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_api(package):
    shown = set(re.findall(r"^::: [\w.]+\.(\w+)$", (DOCS / "api.md").read_text(), re.M))
    assert set(package.__all__) - shown == {"__version__"} & set(package.__all__)


def test_every_module_says_what_it_is_for():
    """`docs/modules.md` lists each by the first paragraph of its docstring."""
    modules = [path for path in (ROOT / "runner").rglob("*.py") if path.name != "__main__.py"]
    assert [str(path) for path in modules if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_what_pages_show_exists():
    shown = [what for page in PAGES for what in re.findall(r"^<!-- show: (\S+) -->$", page.read_text(), re.M)]
    assert shown
    assert [what for what in shown if not (ROOT / what).exists()] == []


def commands_of(page):
    """Return the commands in the page's shell blocks as lists of words, except for a user's own folder."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["run"] and "--config-dir" not in words:
                yield words[1:]


def dotted(values, prefix=""):
    """Return the dotted names of all options in a file, including those that hold other options."""
    for name, value in values.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{name}.")


@cache
def option_names(command):
    """Return the options of the command's file and of all choices of its groups, which is faster than composing."""
    values = yaml.safe_load((CONF / f"{command}.yaml").read_text())
    names = set(dotted({name: value for name, value in values.items() if name != "defaults"}))
    for group in [group for entry in values["defaults"] if isinstance(entry, dict) for group in entry]:
        for file in (CONF / group).glob("*.yaml"):
            text = file.read_text()
            names |= {group, *dotted(yaml.safe_load(text), "" if "@package _global_" in text else f"{group}.")}
    return names


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands_of(page))], ids=lambda page: page.stem)
def test_commands_on_a_page_are_understood(page):
    for command, *words in commands_of(page):
        assert command in COMMANDS
        if not (CONF / f"{command}.yaml").exists():  # no options of its own; those of run list runs are the runs'
            assert command == "list" or not any("=" in word for word in words)
            continue
        names = option_names(command) | (option_names("train") if command in ("reproduce", "search") else set())
        for option, _, value in (word.partition("=") for word in words if "=" in word):
            # A stored run with a user's own class is only built if the class is named again.
            assert option in names or option.startswith(("hydra/", "hydra.launcher.")) or option == "model.architecture"
            if (CONF / option).is_dir():
                assert set(value.split(",")) <= set(options(option)), option
