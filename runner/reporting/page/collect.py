"""Collect the contents of the report page from run folders, skipping unreadable parts."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from runner.errors import UserError
from runner.reporting.columns import column_names, same_but_seed, varying_options, without_repeats
from runner.reporting.gather import Measured, dotted_config, measure
from runner.reporting.points import metrics_of
from runner.runs import Run
from runner.tasks.metrics import Metric

UNREADABLE = (UserError, OSError, KeyError, TypeError, ValueError, AttributeError)
_TEXT = 20_000  # maximum number of characters shown of a file
_LOG_LINES = 20
_CLASSES = 50  # maximum size of a legible confusion matrix
_DIFFERENCES = 12


@dataclass(frozen=True)
class Certificate:
    """The certificate in a compact/<name> folder."""

    name: str
    rows: list[dict[str, str]]
    text: str


@dataclass(frozen=True)
class RunInfo:
    """Everything shown about one run on the report page."""

    run: Run
    state: str
    config: Mapping[str, Any]  # dotted names → values; {} if it can't be read
    status: Mapping[str, Any]
    error: str = ""
    measured: Measured | None = None  # None if the run was not swept
    config_text: str = ""
    log: str = ""  # the end of the log if the run isn't finished
    samples: str = ""
    certificates: Sequence[Certificate] = ()
    predictions: Sequence[tuple[str, pd.DataFrame]] = ()  # file name, counts of (label, predicted)

    @property
    def name(self) -> str:
        return str(self.run.folder)

    @property
    def note(self) -> str:
        note = self.status.get("note")
        return note if isinstance(note, str) else ""


@dataclass(frozen=True)
class Collected:
    """All runs shown on the report page."""

    runs: list[RunInfo]
    columns: dict[str, list[RunInfo]] = field(default_factory=dict)  # column → runs that differ only in their seed
    differing: list[str] = field(default_factory=list)  # names of options in which runs differ
    common: dict[str, Any] = field(default_factory=dict)  # options that are the same in all runs

    @property
    def names(self) -> dict[Run, str]:
        """The column name of each run."""
        return {info.run: name for name, runs in self.columns.items() for info in runs}

    def measured(self, metric: Metric) -> list[Measured]:
        """Return the swept runs that have measured the metric."""
        found = [info.measured for runs in self.columns.values() for info in runs if info.measured]
        return [one for one in found if metric.name in metrics_of(one.columns)]

    @property
    def metrics(self) -> list[tuple[Metric, Metric]]:
        """All measured metrics, headline metrics first, each with the headline metric of a run that measured it."""
        swept = [info.measured for info in self.runs if info.measured]
        found = {one.headline.name: (one.headline, one.headline) for one in swept}
        for one in swept:
            for name in metrics_of(one.columns):
                found.setdefault(name, (one.run.metric(name), one.headline))
        return list(found.values())


def collect(runs: Iterable[Run]) -> Collected:
    """Read everything that the page shows. Unreadable runs are reported as damaged and do not raise an error."""
    infos = [_info_of(run) for run in runs]
    by_run = {one.run: one for one in infos}
    known = [_comparable(one) for one in infos if one.config]
    groups = [without_repeats(group)[0] for group in same_but_seed(known)]
    names = column_names([group[0] for group in groups]) if groups else []
    order = sorted(range(len(groups)), key=lambda i: (groups[i][0].config["dropout.name"] != "none", names[i]))
    columns = {names[i]: [by_run[one.run] for one in sorted(groups[i], key=lambda one: one.seed)] for i in order}
    configs = [one.config for one in infos if one.config]
    differing = [name for name in varying_options(configs) if not name.endswith("_target_")]
    common = {
        name: value
        for name, value in (configs[0] if configs else {}).items()
        if name not in differing and all(name in config and config[name] == value for config in configs)
    }
    return Collected(infos, columns, differing[:_DIFFERENCES], common)


def _comparable(info: RunInfo) -> Measured:
    return info.measured or Measured.without_points(info.run, info.config, info.status)


def _info_of(run: Run) -> RunInfo:
    try:
        status = run.status()
        state = run.state_of(status) or "no status"
        config = dotted_config(run, status)
    except UNREADABLE as damage:
        return RunInfo(run, "damaged", {}, {}, str(damage), log=_end_of(run.log_file))
    error, measured = str(status.get("error") or ""), None
    if run.pruning_file.exists():
        try:
            measured = measure(run, config, status)
        except UNREADABLE as damage:
            state, error = "damaged" if state == "finished" else state, error or str(damage)
    return RunInfo(
        run=run,
        state=state,
        config=config,
        status=status,
        error=error,
        measured=measured,
        config_text=yaml.safe_dump(run.config(), sort_keys=False, allow_unicode=True)[:_TEXT],
        log="" if state == "finished" else _end_of(run.log_file),
        samples=_text(run.samples_file),
        certificates=[_certificate(path) for path in run.certificates()],
        predictions=[found for path in sorted(run.folder.glob("predictions*.csv")) if (found := _confusion(path))],
    )


def _text(path: Path) -> str:
    """Return the beginning of a text file, or "" if there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_TEXT + 1)
    except OSError:
        return ""
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}\n… ({path.name} has more)"


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TEXT))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-_LOG_LINES:])
    except OSError:
        return ""


def _certificate(path: Path) -> Certificate:
    try:
        with path.with_suffix(".csv").open(encoding="utf-8", errors="replace", newline="") as file:
            rows = [{str(name): str(value) for name, value in row.items()} for row in islice(csv.DictReader(file), 200)]
    except (OSError, csv.Error):
        rows = []
    return Certificate(path.parent.name, rows, _text(path))


def _confusion(path: Path) -> tuple[str, pd.DataFrame] | None:
    """Count the predictions written by run evaluate. Return None for other files or more than `_CLASSES` classes."""
    try:
        rows = pd.read_csv(path, usecols=["label", "predicted"]).astype(int)
    except UNREADABLE:
        return None
    classes = sorted({*rows["label"], *rows["predicted"]})
    if not classes or len(classes) > _CLASSES:
        return None
    counts = rows.groupby(["label", "predicted"]).size().reset_index(name="images")
    return path.name, counts
