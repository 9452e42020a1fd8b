"""The output of run --help and run COMMAND --help, produced without importing Hydra or torch.

A command's text is its module's docstring, which is read without importing the module. The options and their
descriptions come from its configuration, conf/<command>.yaml, and from the groups shown in its help.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

from runner.config.paths import CONF

# In the order in which users need them.
COMMANDS = (
    *("train", "prune", "evaluate", "inspect", "compact", "export", "table", "report", "reproduce"),
    *("coadapt", "ticket", "fit", "search", "scree", "bench", "list", "show", "diff", "clean"),
)
# Groups whose options a command's help lists, for their default choice. Other groups are only named.
_SHOWN = {"train": ("data", "schedule", "prune"), "prune": ("prune",), "table": ("table",)}
_OPTION = re.compile(r'^(?P<indent> *)"?(?P<name>\w+)"?:(?: (?P<value>[^#]\S*?.*?))??(?:\s+# (?P<comment>.*))?$')
_WIDTH, _COLUMN = 118, 34


def overview() -> str:
    """Return the text printed by run --help."""
    lines = [f"  {f'run {name}':15} {_text(name).splitlines()[0].partition(': ')[2]}" for name in COMMANDS]
    return "\n".join(
        [
            *("run: train networks that survive pruning, prune them, compare them", "", *lines, ""),
            *("Try:", "  run train model=resnet32 dropout=targeted"),
            *("  run train -m model=resnet32 dropout=none,targeted seed=0,1,2", "  run table", ""),
            "run COMMAND --help explains a command. Options are written name=value.",
        ]
    )


def help_of(command: str) -> str:
    """Return the text printed by run COMMAND --help."""
    file = CONF / f"{command}.yaml"
    return "\n".join([_text(command), *(_options(command, file) if file.is_file() else [])])


def usage_of(command: str) -> str:
    """Return a command's usage line, such as `run prune FOLDER… [options]`."""
    return _text(command).partition(": ")[0]


def example_of(command: str) -> str:
    """Return the first example command in the help text."""
    return next(line.split("  ")[0] for line in map(str.strip, _text(command).splitlines()[1:])
                if line.startswith(f"run {command} "))  # fmt: skip


def _text(command: str) -> str:
    source = (Path(__file__).parent / "commands" / f"{command}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source), clean=False) or "").rstrip()


def _options(command: str, file: Path) -> Iterator[str]:
    """Yield the lines that list the options with their defaults and comments."""
    lines = file.read_text(encoding="utf-8").splitlines()
    groups = dict(re.findall(r"^  - (\w+): (\w+)$", "\n".join(lines), re.M))
    shown = [group for group in _SHOWN.get(command, ()) if group in groups]
    if named := [f"{group}={choice}" for group, choice in groups.items() if choice != "null"]:
        yield from ("", "Choices and their defaults; run list GROUP shows the alternatives")
        yield from wrap(" ".join(named), _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    yield from ("", "Options and their defaults")
    for prefix, name, value, comment in _entries(lines):
        yield from _entry(f"{prefix}{name}={value}", comment)
    for group in shown:
        for prefix, name, value, comment in _entries((CONF / group / f"{groups[group]}.yaml").read_text().splitlines()):
            if not name.startswith("_") and name != "name":
                yield from _entry(f"{group}.{prefix}{name}={value}", comment)


def _entries(lines: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the prefix, name, value and comment of every option in the lines of a YAML file."""
    parents: list[tuple[int, str]] = []
    for match in filter(None, map(_OPTION.match, lines)):
        indent, name = len(match["indent"]), match["name"]
        parents = [parent for parent in parents if parent[0] < indent]
        if parents and parents[0][1] in ("defaults", "hydra"):
            continue
        if match["value"] is None:
            parents.append((indent, name))
        elif name not in ("_target_",):
            value = match["value"].replace(", ", ",")  # as one word of a command line
            yield "".join(f"{parent}." for _, parent in parents), name, value, match["comment"] or ""


def _entry(option: str, comment: str) -> Iterator[str]:
    """Yield `  option          comment`, with the comment wrapped in its column."""
    option = f"  {option}"
    words = wrap(comment, _WIDTH - _COLUMN, break_long_words=False, break_on_hyphens=False) or [""]
    if words[0] and len(option) >= _COLUMN:
        yield option
        option = ""
    yield f"{option:{_COLUMN}}{words[0]}".rstrip()
    yield from (" " * _COLUMN + line for line in words[1:])
