"""Formats for `run list runs`: the state of each run, its distinguishing options and its results.

This module does not import pandas.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.config.identity import with_defaults
from runner.config.rules import leaves, show
from runner.errors import UserError
from runner.files import read_rows
from runner.reporting.columns import differing_options, varying_options
from runner.reporting.finding import SPARSITIES, Found, of_own_sweep
from runner.reporting.formats import UNPRUNED, duration, number
from runner.runs import Run, scope_of

_CHOICES = ("data.name", "model.name", "dropout.name", "regularizer.name")  # in the name of a run's own folder


def run_lines(runs: Sequence[Run]) -> list[str]:
    """Return one line of text per run.

    Example: `finished     outputs/…/seed0  alpha=0.5  accuracy at sparsity …  (2026-01-31 12:00, 1 min 35 s of
    training)`.
    """
    apart = _apart(runs)
    lines = []
    for run in runs:
        try:
            words = [run.state(), str(run.folder), apart.get(run, ""), _results(run), _times(run), _note(run)]
        except (UserError, KeyError, TypeError, ValueError) as error:
            words = ["damaged", str(run.folder), str(error)]
        lines.append("  ".join([f"{words[0]:11}", *filter(None, words[1:])]))
    return lines


def _apart(runs: Sequence[Run]) -> dict[Run, str]:
    """Return what distinguishes each run from the others and is not in its folder's name; omits unreadable runs."""
    configs = {}
    for run in runs:
        try:
            configs[run] = dict(leaves(with_defaults(run.config())))
        except UserError:
            continue
    kinds: dict[tuple[str, ...], list[Run]] = {}
    for run, config in configs.items():
        kinds.setdefault(tuple(str(config.get(name)) for name in _CHOICES), []).append(run)
    words: dict[Run, str] = {}
    for alike in kinds.values():
        options = differing_options([configs[run] for run in alike])
        words |= {run: f"{_choices(run, configs)} {text}".strip() for run, text in zip(alike, options, strict=True)}
    return words


def _choices(run: Run, configs: Mapping[Run, Mapping[str, Any]]) -> str:
    """Return the choices and the seed where runs differ in them; "" if the folder has its default name."""
    config = configs[run]
    names = [str(config.get(name)) for name in _CHOICES]
    own = f"{'-'.join(names[:3])}-"
    if run.folder.parent.name.startswith(own) and run.folder.name == f"seed{config.get('seed')}":
        return ""
    words = [str(config.get(name)) for name in _CHOICES if len({str(c.get(name)) for c in configs.values()}) > 1]
    if len({c.get("seed") for c in configs.values()}) > 1:
        words.append(f"seed={show(config.get('seed'))}")
    return " ".join(words)


def _results(run: Run) -> str:
    """Return the headline metric on the test split at a few sparsities, the error, or the last epoch."""
    status = run.status()
    if status.get("error"):
        return str(status["error"])
    rows = [row for row in run.pruning_rows() if _shown(row, scope_of(status))]
    if not rows:
        metrics = read_rows(run.metrics_file)
        return f"epoch {metrics[-1]['epoch']}" if metrics else ""
    metric = run.metric(status["headline"]["metric"])
    parts = []
    for granularity in dict.fromkeys(row["granularity"] for row in rows):
        values = [row for row in rows if row["granularity"] == granularity]
        # Rows below the floor are of the network pruned at the floor; the unpruned network has a row of its own.
        floor = max(float(row["floor"]) for row in values)
        swept = [row for row in values if not floor or float(row["floor"])]
        shown = ", ".join(f"{float(r['sparsity']):.0%} {number(float(r[metric.name]), metric)}" for r in swept)
        if whole := [row for row in values if row not in swept and float(row["sparsity"]) == 0]:
            shown += f", {UNPRUNED} {number(float(whole[0][metric.name]), metric)}"
        parts.append(f"{granularity}: {shown}")
    return f"{metric.name} at sparsity " + "; ".join(parts)


def _shown(row: Mapping[str, Any], scope: str) -> bool:
    usual = row["batch_norm"] != "recalibrated" and float(row["sparsity"]) in SPARSITIES
    return usual and of_own_sweep(row, scope)


def _note(run: Run) -> str:
    note = run.status().get("note")
    return "" if note is None else f"note: {' '.join(str(note).split())}"


def _times(run: Run) -> str:
    """Return when the run started and how long it has trained."""
    status = run.status()
    words = [str(status["started"])[:16].replace("T", " ")] if status.get("started") else []
    seconds = status.get("seconds")
    if seconds is None and (rows := read_rows(run.metrics_file)):
        seconds = rows[-1].get("seconds")
    if seconds is not None:
        words.append(f"{duration(float(seconds))} of training")
    return f"({', '.join(words)})" if words else ""


def json_lines(found: Sequence[Found]) -> list[str]:
    """Return the lines of one JSON list; NaN becomes null."""
    text = json.dumps([one.as_json() for one in found], indent=2, ensure_ascii=False, default=str)
    return [re.sub(r"\bNaN\b(?=,?$)", "null", line) for line in text.splitlines()]


def csv_lines(found: Sequence[Found]) -> list[str]:
    """Return the lines of a CSV file with one row per run.

    Its columns describe the run, the options in which the runs differ, and the best value of the headline metric at a
    few sparsities.
    """
    readable = [one for one in found if one.config]
    differing = [name for name in varying_options([one.config for one in readable]) if not name.endswith("_target_")]
    metrics = dict.fromkeys(one.metric.name for one in found if one.metric)
    reached = [(metric, at) for metric in metrics for at in SPARSITIES]
    names = ["folder", "state", "note", "started", "seconds", "error", "seed", *differing]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *(f"{metric}@{at:g}" for metric, at in reached)])
    for one in found:
        about = [one.status.get(name) for name in ("note", "started", "seconds")]
        options = [one.config.get(name) for name in ("seed", *differing)]
        values = [one.at(metric, at) for metric, at in reached]
        shown = ["" if value is None else show(value) for value in (*about, one.error or None, *options)]
        writer.writerow([one.run.folder, one.state, *shown, *("" if v != v else f"{v:.9g}" for v in values)])
    return out.getvalue().splitlines()


def _text_lines(found: Sequence[Found]) -> list[str]:
    return run_lines([one.run for one in found])


FORMATS: dict[str, Callable[[Sequence[Found]], list[str]]] = {"text": _text_lines, "json": json_lines, "csv": csv_lines}
