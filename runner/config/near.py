"""Suggestions for unknown options and choices."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from runner.config.build import PACKAGES

# Common names for options and groups that are not similar in spelling.
ABBREVIATIONS = {
    "lr": "schedule.learning_rate",
    "wd": "schedule.weight_decay",
    "bs": "schedule.batch_size",
    "batch": "schedule.batch_size",
    "epoch": "schedule.length",
    "epochs": "schedule.length",
    "steps": "schedule.length",
    "iterations": "schedule.length",
    "optimizer": "schedule",
    "sparsity": "prune.sparsities",
    "dataset": "data",
    "network": "model",
    "arch": "model",
}


def near(word: str, words: Sequence[str]) -> str:
    """Return `; did you mean …?` with the most similar word, or "" if no word is similar."""
    found = _nearest(word, words)
    return f"; did you mean {found}?" if found else ""


def near_option(key: str, known: Sequence[str], config: Mapping[str, Any], folders: Sequence[Path]) -> str:
    """Return a hint for an unknown option: a similar option, other choices that have it, or the options that exist.

    Args:
        known: the dotted names of the existing options.
        config: the composed values; a group's choice is its `name`.
        folders: the configuration folders with the groups' files.
    """
    group, _, option = key.partition(".")
    part = config.get(group)
    if not option:
        known = [*known, *PACKAGES]
        elsewhere = "" if ABBREVIATIONS.get(key) in known or _same(key, known) else _elsewhere(key, config, folders)
        return elsewhere or near(key, known)
    if not isinstance(part, Mapping) or "name" not in part:
        return near(key, [*known, *PACKAGES])
    own = [name.removeprefix(f"{group}.") for name in known if name.startswith(f"{group}.")]
    has = ", ".join(name for name in own if name != "_target_") or "none"
    meant = ABBREVIATIONS.get(option, "").removeprefix(f"{group}.")
    close = [meant] if meant in own else get_close_matches(option, own, n=1, cutoff=0.6)
    hint = f"; did you mean {group}.{close[0]}?" if close else ";"
    others = _choices_with(option, group, folders)
    more = f"; it is one of {group}={', '.join(others)}" if others and not close else ""
    return f"{hint} {group}={part['name']} has {has}{more}"


def _nearest(word: str, words: Sequence[str]) -> str | None:
    """Return the name that a word abbreviates, or resembles as a whole or in its last component (dropout.gamma)."""
    if ABBREVIATIONS.get(word) in words:
        return ABBREVIATIONS[word]
    by_last = {name.rpartition(".")[2]: name for name in reversed(words)}
    last = word.rpartition(".")[2]
    close = get_close_matches(word, words, n=1, cutoff=0.6) or _same(word, words)
    close = close or [by_last[name] for name in get_close_matches(last, by_last, n=1, cutoff=0.75)]
    return close[0] if close else None


def _same(word: str, words: Sequence[str]) -> list[str]:
    """Return the first name with the same last component, in a list, or an empty list."""
    return [name for name in words if name.rpartition(".")[2] == word.rpartition(".")[2]][:1]


def _elsewhere(option: str, config: Mapping[str, Any], folders: Sequence[Path]) -> str:
    """Return a hint about a group that has the option for other choices than the current one."""
    for group in PACKAGES:
        part = config.get(group)
        if isinstance(part, Mapping) and (others := _choices_with(option, group, folders)):
            has = f"{group}={part.get('name')} has none, but {group}={', '.join(others)}"
            return f"; did you mean {group}.{option}? {has}"
    return ""


def _choices_with(option: str, group: str, folders: Sequence[Path]) -> list[str]:
    """Return the choices of a group whose files contain the option."""
    found = []
    for path in sorted(path for folder in folders for path in (folder / group).glob("*.yaml")):
        try:
            content = yaml.safe_load(path.read_text())
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(content, dict) and option in (content.get(group) or content):
            found.append(path.stem)
    return found
