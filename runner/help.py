"""What run --help and run COMMAND --help say. Imports no Hydra and no torch.

The text of a command is the docstring of its module, read without importing it; its options and what they mean are the
lines and comments of its configuration, conf/<command>.yaml, and of the groups that it shows.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

from runner.config.paths import CONF

# In the order in which people meet them.
COMMANDS = (
    *("train", "prune", "evaluate", "inspect", "compact", "export", "table", "report", "reproduce"),
    *("coadapt", "ticket", "fit", "scree", "bench", "list", "show", "diff", "clean"),
)
# Groups whose options a command's help lists, by their default choice; other groups are only named.
_SHOWN = {"train": ("data", "schedule", "prune"), "prune": ("prune",), "table": ("table",)}
_OPTION = re.compile(r'^(?P<indent> *)"?(?P<name>\w+)"?:(?: (?P<value>[^#]\S*?.*?))??(?:\s+# (?P<comment>.*))?$')
_WIDTH, _COLUMN = 118, 34


def overview() -> str:
    """What run --help prints."""
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
    """What run COMMAND --help prints."""
    file = CONF / f"{command}.yaml"
    return "\n".join([_text(command), *(_options(command, file) if file.is_file() else [])])


def usage_of(command: str) -> str:
    """`run prune FOLDER… [options]`"""
    return _text(command).partition(": ")[0]


def example_of(command: str) -> str:
    """The first line of the help text that can be copied."""
    return next(line.split("  ")[0] for line in map(str.strip, _text(command).splitlines()[1:])
                if line.startswith(f"run {command} "))  # fmt: skip


def _text(command: str) -> str:
    source = (Path(__file__).parent / "commands" / f"{command}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source), clean=False) or "").rstrip()


def _options(command: str, file: Path) -> Iterator[str]:
    """The lines about options, each with its default and its comment."""
    lines = file.read_text(encoding="utf-8").splitlines()
    groups = dict(re.findall(r"^  - (\w+): (\w+)$", "\n".join(lines), re.M))
    shown = [group for group in _SHOWN.get(command, ()) if group in groups]
    if named := [f"{group}={choice}" for group, choice in groups.items() if choice != "null"]:
        yield from ("", "Choices, by default as here; run list GROUP shows what else there is")
        yield from wrap(" ".join(named), _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    yield from ("", "Options and their defaults")
    for prefix, name, value, comment in _entries(lines):
        yield from _entry(f"{prefix}{name}={value}", comment)
    for group in shown:
        for prefix, name, value, comment in _entries((CONF / group / f"{groups[group]}.yaml").read_text().splitlines()):
            if not name.startswith("_") and name != "name":
                yield from _entry(f"{group}.{prefix}{name}={value}", comment)


def _entries(lines: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Prefix, name, value and comment of every option in the lines of a YAML file."""
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
    """`  option          comment`, with further lines below the comment."""
    option = f"  {option}"
    words = wrap(comment, _WIDTH - _COLUMN, break_long_words=False, break_on_hyphens=False) or [""]
    if words[0] and len(option) >= _COLUMN:
        yield option
        option = ""
    yield f"{option:{_COLUMN}}{words[0]}".rstrip()
    yield from (" " * _COLUMN + line for line in words[1:])
