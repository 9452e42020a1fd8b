"""Output formats of `run list runs`: the state of each run, its distinguishing options and its results.

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
from runner.files import read_rows
from runner.reporting.columns import differing_options, varying_options
from runner.reporting.finding import SPARSITIES, UNREADABLE, Found
from runner.reporting.formats import UNPRUNED, duration, number
from runner.runs import Run

_CHOICES = ("data.name", "model.name", "dropout.name", "regularizer.name")  # in the name of a run's own folder


def run_lines(runs: Sequence[Found]) -> list[str]:
    """Return one line of text per run.

    Example: `finished     outputs/…/seed0  alpha=0.5  accuracy at sparsity …  (2026-01-31 12:00, 1 min 35 s of
    training)`.
    """
    apart = _apart(runs)
    lines = []
    for one in runs:
        try:
            words = [one.state, str(one.run.folder), apart.get(one.run, "")]
            words += [one.error] if one.state == "damaged" else [_results(one), _times(one), _note(one)]
        except UNREADABLE as error:
            words = ["damaged", str(one.run.folder), str(error)]
        lines.append("  ".join([f"{words[0]:11}", *filter(None, words[1:])]))
    return lines


def _apart(runs: Sequence[Found]) -> dict[Run, str]:
    """Return what distinguishes each readable run from the others, except what its folder's name shows."""
    configs = {one.run: dict(leaves(with_defaults(one.stored))) for one in runs if one.stored}
    choices = [name for name in _CHOICES if len({str(config.get(name)) for config in configs.values()}) > 1]
    seeds = len({config.get("seed") for config in configs.values()}) > 1
    kinds: dict[tuple[str, ...], list[Run]] = {}
    for run, config in configs.items():
        kinds.setdefault(tuple(str(config.get(name)) for name in _CHOICES), []).append(run)
    words: dict[Run, str] = {}
    for alike in kinds.values():
        options = differing_options([configs[run] for run in alike])
        for run, text in zip(alike, options, strict=True):
            words[run] = f"{_choices(run, configs[run], choices, seeds)} {text}".strip()
    return words


def _choices(run: Run, config: Mapping[str, Any], choices: Sequence[str], seeds: bool) -> str:
    """Return the choices and the seed, if they differ between runs, or "" for a folder with the default name."""
    names = [str(config.get(name)) for name in _CHOICES]
    own = f"{'-'.join(names[:3])}-"
    if run.folder.parent.name.startswith(own) and run.folder.name == f"seed{config.get('seed')}":
        return ""
    words = [str(config.get(name)) for name in choices]
    if seeds:
        words.append(f"seed={show(config.get('seed'))}")
    return " ".join(words)


def _results(one: Found) -> str:
    """Return the run's error, its headline metric on the test split at a few sparsities, or its last epoch."""
    if one.error:
        return one.error
    rows = [row for row in one.rows if float(row["sparsity"]) in SPARSITIES]
    rows = [row for row in rows if row["batch_norm"] != "recalibrated"] or rows
    metric = one.metric
    if not rows or metric is None:
        metrics = read_rows(one.run.metrics_file)
        return f"epoch {metrics[-1]['epoch']}" if metrics else ""
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


def _note(one: Found) -> str:
    note = one.status.get("note")
    return "" if note is None else f"note: {' '.join(str(note).split())}"


def _times(one: Found) -> str:
    """Return the start time of the run and its training time."""
    status = one.status
    words = [str(status["started"])[:16].replace("T", " ")] if status.get("started") else []
    seconds = status.get("seconds")
    if seconds is None and (rows := read_rows(one.run.metrics_file)):
        seconds = rows[-1].get("seconds")
    if seconds is not None:
        words.append(f"{duration(float(seconds))} of training")
    return f"({', '.join(words)})" if words else ""


def json_lines(found: Sequence[Found]) -> list[str]:
    """Return the lines of a JSON list. NaN becomes null."""
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


FORMATS: dict[str, Callable[[Sequence[Found]], list[str]]] = {"text": run_lines, "json": json_lines, "csv": csv_lines}
