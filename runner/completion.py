"""Shell completion of commands, groups, choices and options.

This module imports neither Hydra nor torch, so that completion is fast.
"""

from collections.abc import Sequence

import yaml

from runner.config.paths import CONF, groups, options_in
from runner.help import COMMANDS

# zsh needs `autoload -U bashcompinit && bashcompinit` first. To bash, the text after `=` is a word of its own.
SCRIPT = """\
_run_complete() {
    local IFS=$'\\n'
    COMPREPLY=($(%s --complete "${COMP_LINE:0:$COMP_POINT}" 2>/dev/null))
}
complete -o default -o nospace -F _run_complete run
"""
_ANSWERS = {"state": ("finished", "running", "interrupted", "failed", "damaged"), "format": ("text", "json", "csv")}


def script(shell: str, program: str = "run") -> str:
    """Return the completion script for a shell, bash or zsh."""
    begin = "autoload -U bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return begin + SCRIPT % program


def complete(line: str) -> list[str]:
    """Return the possible completions of the last word of a command line.

    For `name=value`, only the values are returned, because bash splits words at `=`.
    """
    words = line.split()
    last = "" if not words or line[-1].isspace() else words.pop()
    if len(words) < 2:
        return [f"{name} " for name in COMMANDS if name.startswith(last) and words]
    command, given = words[1], words[2:]
    name, separator, value = last.partition("=")
    if separator:
        begun, _, end = value.rpartition(",")
        begin = f"{begun}," if begun else ""
        return [begin + choice for choice in _values(name) if choice.startswith(end)]
    if command == "list":
        named = [group for group in ("runs", *groups()) if group.startswith(last)]
        return [f"{word} " for word in named] if "runs" not in given else _of_runs(last)
    return [word for word in _options(command, given, last) if word.startswith(last)]


def _of_runs(last: str) -> list[str]:
    names = [*groups(), *_ANSWERS, "sort"]
    return [f"{name}=" for name in names if name.startswith(last)]


def _values(name: str) -> list[str]:
    if name in groups():
        return sorted(path.stem for path in (CONF / name).glob("*.yaml"))
    return list(_ANSWERS.get(name, ()))


def _options(command: str, given: Sequence[str], last: str) -> list[str]:
    """Return the command's groups and options or, after `group.`, the options of the group's choice."""
    file = CONF / f"{command}.yaml"
    content = yaml.safe_load(file.read_text()) if command in COMMANDS and file.is_file() else {}
    names = [name for name in content if name not in ("defaults", "hydra")]
    chosen = {group: str(choice) for part in content.get("defaults", []) if isinstance(part, dict)
              for group, choice in part.items() if not group.startswith("override")}  # fmt: skip
    group, dot, _ = last.partition(".")
    if dot:
        typed = dict(word.split("=", 1) for word in given if "=" in word)
        return [f"{group}.{name}=" for name in options_in(group, typed.get(group, chosen.get(group, "")))
                if not name.startswith("_")]  # fmt: skip
    return [f"{name}=" for name in sorted({*chosen, *names})]
