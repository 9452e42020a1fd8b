"""Statements that occur in several files of the project agree."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner import __version__

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text().splitlines()
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def lower_bound(package: str) -> str:
    (bound,) = re.findall(rf"^{package}>=([\d.]+)", "\n".join(PROJECT["dependencies"]), re.M)
    return bound


def test_one_version():
    assert "version" in PROJECT["dynamic"], "read from runner/__init__.py"
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_file_tells_to_install_a_strangers_package():
    """`runner` on PyPI is a different project."""
    assert PROJECT["name"] != "runner"
    files = [ROOT / "README.md", *(ROOT / "runner").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml")]
    assert [path for path in files if re.search(r"pip install '?runner\b", path.read_text())] == []


@pytest.mark.parametrize("group", [[], *PROJECT["optional-dependencies"]], ids=str)
def test_every_dependency_is_pinned(group):
    pinned = {line.partition("==")[0].lower() for line in CONSTRAINTS}
    wanted = PROJECT["optional-dependencies"][group] if group else PROJECT["dependencies"]
    assert {re.split(r"[>=<]", name)[0].lower() for name in wanted} - pinned == set()


def test_the_workflow_covers_what_is_supported():
    text = WORKFLOW.read_text()
    jobs = yaml.safe_load(text)["jobs"]
    matrix = jobs["check"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos"}
    lowest, highest = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    assert {f"3.{lowest}", f"3.{int(highest) - 1}"} == set(matrix["python"])
    for package in ("torch", "torchvision"):
        assert re.search(rf"\b{package}=={re.escape(lower_bound(package))}\.0\b", text), "the oldest that is allowed"


PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(page for folder in ("docs", "outputs/reference") for page in sorted((ROOT / folder).rglob("*.md"))),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(((?!http)[^)#]+)", page.read_text())
    assert [where for where in links if not (page.parent / where).exists()] == []
