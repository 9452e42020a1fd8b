"""Read finished runs and their measurements."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from runner.config.identity import with_defaults
from runner.config.rules import leaves, show
from runner.errors import ConfigError, DamagedRun
from runner.reporting.finding import matches
from runner.reporting.points import headline_of, read_columns
from runner.runs import TICKET_DROPOUT, Run
from runner.tasks.metrics import Metric

_NAN = float("nan")
Chosen = Sequence[tuple[Run, Mapping[str, Any]]]


@dataclass(frozen=True)
class Measured:
    """A finished run with the points of its sweeps."""

    run: Run
    config: Mapping[str, Any]  # dotted names → values
    hash: str  # of the configuration without its seed, with the content of the user's own data
    headline: Metric
    columns: Mapping[str, Sequence[Any]]  # of pruning.csv

    @classmethod
    def without_points(cls, run: Run, config: Mapping[str, Any], status: Mapping[str, Any]) -> "Measured":
        """Return a run of which only the configuration is known, to group it with others."""
        return cls(run, config, _hash_of(status), Metric(""), {})

    @cached_property
    def points(self) -> pd.DataFrame:
        return pd.DataFrame(self.columns)

    @property
    def seed(self) -> int:
        return int(self.config["seed"])


def gather(runs: Iterable[Run], wanted: Mapping[str, Any]) -> tuple[list[Measured], list[str]]:
    """Return the finished runs whose configuration has the wanted values, and notes about runs that were left out.

    Args:
        wanted: a value or a list of allowed values for each dotted configuration name.

    Raises:
        DamagedRun: a folder cannot be read.
        ConfigError: no run has such an option, or no run is left.
    """
    statuses, configs = {}, []
    for run in runs:
        statuses[run] = run.status()
        configs.append((run, dotted_config(run, statuses[run])))
    _check_known([config for _, config in configs], wanted)
    chosen, notes = _without_tickets([(run, c) for run, c in configs if matches(c, wanted)], wanted)
    measured, unfinished = [], []
    for run, config in chosen:
        state = run.state_of(statuses[run])
        if state == "finished":
            measured.append(measure(run, config, statuses[run]))
        else:
            unfinished.append(f"{run.folder} ({state or 'no status'})")
    left_out = [*notes, *([f"left out, not finished: {', '.join(unfinished)}"] if unfinished else [])]
    if not measured:
        what = f" with table.runs={{{_shown(wanted)}}}" if wanted else ""
        raise ConfigError("; ".join([f"no finished run{what} for the table", *left_out]))
    return measured, left_out


def dotted_config(run: Run, status: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a run's stored configuration, with dotted names as keys.

    Args:
        status: the content of status.json, if it has just been read.

    Raises:
        DamagedRun: the configuration cannot be read, or has no seed or dropout.
    """
    config = dict(leaves(with_defaults(run.config(status))))
    for name, kind in (("seed", int), ("dropout.name", str)):
        if not isinstance(config.get(name), kind):
            raise DamagedRun(f"{run.config_file} is damaged: it has no {name}")
    return config


def _without_tickets(chosen: Chosen, wanted: Mapping[str, Any]) -> tuple[Chosen, list[str]]:
    """Drop the runs of run ticket, and return the remaining runs with a note about those dropped.

    They are kept if there are no other runs or if `wanted` selects the dropout.
    """
    others = [(run, config) for run, config in chosen if config.get("dropout._target_") != TICKET_DROPOUT]
    tickets = len(chosen) - len(others)
    if not others or not tickets or any(name.partition(".")[0] == "dropout" for name in wanted):
        return chosen, []
    return others, [f"left out: {tickets} trained by run ticket; table=tickets shows them"]


def concatenate(measured: Sequence[Measured]) -> pd.DataFrame:
    """Return the points of several runs, with the number of the run in an additional column `run`."""
    # One frame made from lists takes a tenth of the time of as many frames as runs.
    sizes = [len(run.columns["split"]) for run in measured]
    lists: dict[str, list[Any]] = {name: [] for run in measured for name in run.columns}
    for name, values in lists.items():
        for run, size in zip(measured, sizes, strict=True):
            values.extend(run.columns.get(name, [_NAN] * size))
    return pd.DataFrame({"run": np.repeat(np.arange(len(measured)), sizes), **lists})


def measure(run: Run, config: Mapping[str, Any], status: Mapping[str, Any] | None = None) -> Measured:
    """Return a run with the points of its sweeps.

    Args:
        status: the content of status.json, if it has just been read.

    Raises:
        DamagedRun: there is no sweep, or it cannot be read.
    """
    status = run.status() if status is None else status
    columns = read_columns(run, status)
    return Measured(run, config, _hash_of(status), headline_of(run, columns, status), columns)


def _hash_of(status: Mapping[str, Any]) -> str:
    # Seeds of one experiment may be stored in folders of both formats.
    return str(status.get("hash_of_format_1") or status.get("hash") or "")


def _check_known(configs: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]) -> None:
    """Check the names. A misspelt one would match no run or, with the value `null`, every run."""
    known = {name.removesuffix(".name") for config in configs for name in config} | {n for c in configs for n in c}
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise ConfigError(f"table.runs: no run has an option {name}{f'; did you mean {near[0]}?' if near else ''}")


def _shown(wanted: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {show(value)}" for name, value in wanted.items())
