"""What MkDocs does beyond docs/: pages of the repository's other folders, and text that stands in the code.

The pages read well on GitHub, too: links lead to files of the repository, and what is filled in here is an HTML comment
there, which nobody sees.

    <!-- show: run train --help -->            the help text of a command
    <!-- show: conf/dropout/targeted.yaml -->  a file
    <!-- show: conf/dropout/ -->               a table of a folder's files, by their first lines
    <!-- show: runner/ -->                     every module of a package and of those in it, by its docstring
"""

import ast
import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from runner.help import help_of  # noqa: E402

OUTSIDE = ["CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", "examples/*", "outputs/reference/**/*"]


def on_files(files: Any, config: Any) -> Any:
    """The README becomes the first page; what OUTSIDE names keeps its path."""
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    for path in sorted({path for pattern in OUTSIDE for path in ROOT.glob(pattern) if path.is_file()}):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links between files of the repository become links of the site; `show` comments become what they name."""
    source = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()

    def link(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        here = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        there = "index.md" if here == "README.md" else here.removeprefix("docs/")
        return f"]({os.path.relpath(there, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    markdown = re.sub(r"\]\((?!\w+:|#|/)([^)#\s]+)(#[^)]*)?\)", link, markdown)
    return re.sub(r"^<!-- show: (.+?) -->$", lambda match: shown(match[1]), markdown, flags=re.M)


def shown(what: str) -> str:
    """The Markdown that stands for a `show` comment."""
    if command := re.fullmatch(r"run (\w+) --help", what):
        return f"```text\n{help_of(command[1])}\n```"
    path = ROOT / what
    if (path / "__init__.py").is_file():
        return "\n\n".join(modules(package.parent) for package in sorted(path.rglob("__init__.py")))
    if path.is_dir():
        return "\n".join(["| name | |", "|---|---|", *(f"| `{file.stem}` | {first(file)} |" for file in rows(path))])
    return f'```yaml title="{what}"\n{path.read_text().strip()}\n```'


def modules(package: Path) -> str:
    """A package's heading, and a table of its modules."""
    lines = [f"## `{package.relative_to(ROOT)}/`", "", purpose(package / "__init__.py"), ""]
    files = [file for file in sorted(package.glob("*.py")) if not file.name.startswith("__")]
    table = ["| file | |", "|---|---|", *(f"| `{file.name}` | {purpose(file)} |" for file in files)] if files else []
    return "\n".join([*lines, *table])


def purpose(module: Path) -> str:
    """The first paragraph of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    return " ".join(docstring.partition("\n\n")[0].split()).replace("|", "\\|")


def rows(folder: Path) -> list[Path]:
    """The choices of a group."""
    return sorted(folder.glob("*.yaml"))


def first(file: Path) -> str:
    """A choice's description: its first line that is a comment, without the package directive."""
    lines = [line for line in file.read_text().splitlines() if line.startswith("# ") and "@package" not in line]
    return lines[0].removeprefix("# ").replace("|", "\\|")
