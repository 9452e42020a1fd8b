"""run list: what there is to choose from, and what ran."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from runner import runs
from runner.config.compose import options
from runner.config.near import near
from runner.config.paths import CONF, groups
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.reporting.finding import STATES, Found, chosen, in_order
from runner.reporting.listing import FORMATS
from runner.rules import list_of, one_of


def list_(words: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: groups and their files, one line each; or the runs below some folders (default outputs)."""
    if words and words[0] == "runs":
        return _runs(words[1:], overrides)
    if overrides:
        raise ConfigError(f"{overrides[0]}: run list has no options; run list runs has")
    folders = [CONF] + ([config_dir] if config_dir else [])
    known = groups(folders)
    for group in list(words) or known:
        found = {name: line for folder in folders for name, line in options(group, folder).items()}
        if not found or group not in known:
            hint = near(group, ["runs", *known])
            raise ConfigError(f"run list {group}: allowed is runs, {', '.join(known)}{hint}")
        print(f"{group}=")
        width = max(map(len, found))
        for name, line in found.items():
            print(f"  {name:{width}}  {line}".rstrip())
    return 0


def _runs(folders: Sequence[str], overrides: Sequence[str]) -> int:
    """A line a run below the folders, by default of all under outputs but smoke runs."""
    asked = dict(_option(text) for text in overrides)
    shape, by, states = (
        asked.pop(name, default) for name, default in (("format", "text"), ("sort", None), ("state", []))
    )
    states = states if isinstance(states, list) else [states]
    check_each({"format": shape, "state": states}, {"format": one_of(*FORMATS), "state": list_of(one_of(*STATES), 0)})
    outputs = Path("outputs")
    if not folders and not outputs.is_dir():
        print({"json": "[]", "csv": ""}.get(shape, "no runs yet: there is no folder outputs here"))
        return 0
    there, smoke = runs.find_runs(folders or [outputs]), 0
    if not folders:
        there, smoke = runs.without_smoke(there, outputs)
    found = [Found.read(run) for run in there]
    found = chosen(found, asked, states)
    found = in_order(found, str(by)) if by is not None else found
    for line in FORMATS[shape](found):
        print(line)
    if smoke and shape == "text" and not overrides:
        print(f"and {smoke} of debug=smoke: run list runs {outputs / runs.SMOKE}")
    return 0


def _option(text: str) -> tuple[str, Any]:
    """`dropout=none,targeted` → dropout, [none, targeted]"""
    name, _, value = text.partition("=")
    try:
        return name, yaml.safe_load(f"[{value}]" if "," in value and not value.startswith("[") else value)
    except yaml.YAMLError:
        return name, value
