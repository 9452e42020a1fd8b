"""The output of `run list runs`: select, sort and format the runs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from runner import runs
from runner.config.rules import check_each
from runner.reporting.finding import STATES, Found, chosen, in_order
from runner.reporting.listing import FORMATS
from runner.rules import list_of, one_of


def run_list(folders: Sequence[str], overrides: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a list of the runs in the folders, by default all runs under outputs except smoke runs.

    Args:
        overrides: `format`, `sort` and `state`, and the option values that runs must have.

    Raises:
        ConfigError: a value is not allowed.
    """
    asked = dict(_option(text) for text in overrides)
    shape, by, states = (
        asked.pop(name, default) for name, default in (("format", "text"), ("sort", None), ("state", []))
    )
    states = states if isinstance(states, list) else [states]
    check_each({"format": shape, "state": states}, {"format": one_of(*FORMATS), "state": list_of(one_of(*STATES), 0)})
    outputs = Path("outputs")
    if not folders and not outputs.is_dir():
        yield {"json": "[]", "csv": ""}.get(shape, "no runs yet: there is no outputs folder here")
        return
    there, smoke = runs.find_runs(folders or [outputs]), 0
    if not folders:
        there, smoke = runs.without_smoke(there, outputs)
    found = chosen([Found.read(run) for run in there], asked, states)
    yield from FORMATS[shape](in_order(found, str(by)) if by is not None else found)
    if smoke and shape == "text" and not overrides:
        yield f"and {smoke} of debug=smoke: run list runs {outputs / runs.SMOKE}"


def _option(text: str) -> tuple[str, Any]:
    """Parse an override, e.g. `dropout=none,targeted` into `dropout` and [none, targeted]."""
    name, _, value = text.partition("=")
    try:
        return name, yaml.safe_load(f"[{value}]" if "," in value and not value.startswith("[") else value)
    except yaml.YAMLError:
        return name, value
