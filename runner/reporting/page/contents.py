"""The contents of each part of the report page: the rows of its tables and the data for its plots."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from bokeh.models import DataTable, Tabs

from runner.config.rules import show
from runner.errors import ConfigError
from runner.reporting.choice import Choice
from runner.reporting.finding import to_float
from runner.reporting.formats import BATCH_NORMS, COSTS, granularity_label, metric_label, percent
from runner.reporting.learning import learning_curves, read_metrics
from runner.reporting.page.collect import UNREADABLE, Collected, RunInfo
from runner.reporting.page.plots import Plots, tabs
from runner.reporting.page.tables import table
from runner.reporting.points import the_split, unpruned_points
from runner.reporting.sections import Table
from runner.reporting.table import make_table
from runner.tasks.metrics import LOSS, Metric

_NAN = float("nan")
# The `part` of rows that time whole networks: `WHOLE` of `runner.compaction.ways`, whose import of torch takes seconds.
_WHOLE = ("", "whole network")
_RESULT_COLUMNS = ("column", "metric", "granularity", "BatchNorm", "sparsity %", "actual %", "mean", "std", "seeds")
_TIMES = {"ms": "milliseconds", "per second": "per_second", "faster by": "speedup"}


def runs_table(collected: Collected) -> DataTable:
    """Return a table with one row per run: its distinguishing options, its results, and how and where it ran."""
    names, runs = collected.names, collected.runs
    columns: dict[str, list[Any]] = {
        "column": [names.get(info.run, "") for info in runs],
        "seed": [show(info.config.get("seed", "")) for info in runs],
        "state": [info.state for info in runs],
    }
    columns |= (unpruned := _unpruned(runs))
    if any(info.note for info in runs):
        columns["note"] = [info.note for info in runs]
    for option in collected.differing:
        short = option.removesuffix(".name")
        columns[short] = [show(info.config.get(option, "")) for info in runs]
    columns["training (s)"] = [to_float(info.status.get("seconds")) for info in runs]
    for heading, key in {"started": "started", "machine": "device", "threads": "threads", "commit": "git"}.items():
        columns[heading] = [show(info.status.get(key) or "") for info in runs]
    columns["folder"] = [info.name for info in runs]
    columns["command"] = [show(info.status.get("command") or "") for info in runs]
    return table(columns, dict.fromkeys(unpruned, 2))


def _unpruned(runs: Sequence[RunInfo]) -> dict[str, list[float]]:
    """Map headings such as `test accuracy (%), unpruned` to the values of all runs, with NaN for missing ones."""
    found: dict[str, dict[int, float]] = {}
    for index, info in enumerate(runs):
        if info.measured is None:
            continue
        points, metric = info.measured.points, info.measured.headline
        split = the_split(points)
        whole = unpruned_points(points[points["split"] == split])
        if len(whole):
            heading = f"{metric_label(split, metric)}, unpruned"
            found.setdefault(heading, {})[index] = metric.scale * float(whole[metric.name].iloc[0])
    return {name: [values.get(index, _NAN) for index in range(len(runs))] for name, values in found.items()}


def tables_of(collected: Collected) -> list[Table]:
    """Return one table per metric with the runs that have measured it."""
    made = []
    for metric, _ in collected.metrics:
        if (one := _table(collected, metric)) is not None:
            made.append(one)
    return made


def _table(collected: Collected, metric: Metric, x: str = "sparsity") -> Table | None:
    measured = collected.measured(metric)
    splits = [the_split(one.points) for one in measured]
    split = "test" if "test" in splits else splits[0]
    try:
        choice = Choice(name="report", metric=metric.name, split=split, x=x)
        return make_table([one for one in measured if split in set(one.points["split"])], choice, collected.names)
    except ConfigError:  # there are no such measurements
        return None


def sparsity_plots(made: Sequence[Table], plots: Plots) -> Tabs | None:
    """Return one tab per metric, each with one tab per section of its table."""
    panels = {
        metric_label(one.split, one.metric): tabs(
            {section.title: plots.over_sparsity(section, one.metric, one.split) for section in one.sections}
        )
        for one in made
    }
    return tabs(panels) if panels else None


def results_table(made: Sequence[Table]) -> DataTable | None:
    """Return a table with one row per column, metric, granularity, BatchNorm mode and sparsity."""
    rows = []
    for one in made:
        for section in one.sections:
            for row in section.rows.to_dict("records"):
                scale = one.metric.scale
                what = [row["column"], metric_label(one.split, one.metric), granularity_label(row["granularity"])]
                norm = BATCH_NORMS.get(row["batch_norm"], row["batch_norm"]).removeprefix("BatchNorm ")
                numbers = [100 * row["sparsity"], 100 * row["actual_sparsity"], scale * row["mean"], scale * row["std"]]
                rows.append([*what, norm, *numbers, int(row["n"])])
    columns = dict(zip(_RESULT_COLUMNS, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    return table(columns, {"actual %": 2, "mean": 4, "std": 4}) if rows else None


def pareto_plots(collected: Collected, plots: Plots) -> Tabs | None:
    """Return one tab per headline metric and cost: bytes, FLOPs, parameters, and latency of certified networks."""
    headlines = dict.fromkeys(headline for _, headline in collected.metrics)
    panels: dict[str, object] = {}
    for metric in headlines:
        more = "" if len(headlines) == 1 else f", {metric.label}"
        costs: dict[str, tuple[str, pd.DataFrame, str]] = {}
        for cost, label in COSTS.items():
            made = _table(collected, metric, cost)
            if made is not None and made.rows[cost].gt(0).any():
                costs[cost] = (label, _networks(made, cost), made.split)
        for batch, (unit, points) in _latencies(collected, metric).items():
            costs[f"latency, batch {batch}"] = (
                f"milliseconds for {batch} {unit}",
                points.rename(columns={"ms": f"latency, batch {batch}"}),
                "test",
            )
        for cost, (label, points, split) in costs.items():
            panels[f"{cost}{more}"] = plots.over_cost(points, cost, label, metric, split)
    return tabs(dict(sorted(panels.items()))) if panels else None


def _networks(made: Table, cost: str) -> pd.DataFrame:
    frames = []
    for section in made.sections:
        rows = section.rows[section.rows[cost].gt(0)].drop_duplicates(["column", cost, "mean"], keep="last")
        at = rows[["sparsity", "floor"]].max(axis=1)
        frames.append(rows.assign(what=[f"{section.title} to {percent(value)} %" for value in at]))
    return pd.concat(frames, ignore_index=True)


def _latencies(collected: Collected, metric: Metric) -> dict[str, tuple[str, pd.DataFrame]]:
    """Return the unit and the points for each batch size.

    There is one point for each certified network and for its unpruned original, each with its fastest execution method.
    """
    found: dict[str, tuple[str, list[dict[str, Any]]]] = {}
    for name, runs in collected.columns.items():
        for info in runs:
            if info.measured is None or info.measured.headline != metric:
                continue
            for certificate in info.certificates:
                for (batch, unit), rows in _whole_networks(certificate.rows).items():
                    for network, row in rows.items():
                        value = _reached(info, certificate.name if network != "dense" else "", metric)
                        if value is not None:
                            what = f"{certificate.name if network != 'dense' else 'unpruned'}, {row['way']}"
                            entry = {"column": name, "what": what, "ms": float(row["milliseconds"]), "mean": value}
                            found.setdefault(batch, (unit, []))[1].append(entry)
    return {batch: (unit, pd.DataFrame(rows)) for batch, (unit, rows) in found.items()}


def _whole_networks(rows: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], dict[str, Mapping[str, str]]]:
    """Return the fastest row of each network, including "dense", by (batch, unit)."""
    found: dict[tuple[str, str], dict[str, Mapping[str, str]]] = {}
    for row in rows:
        ms = to_float(row.get("milliseconds"))
        if not ms > 0 or row.get("part", "") not in _WHOLE or not {"network", "way"} <= set(row):
            continue
        fastest = found.setdefault((row.get("batch", ""), row.get("unit", "")), {})
        if row["network"] not in fastest or ms < float(fastest[row["network"]]["milliseconds"]):
            fastest[row["network"]] = row
    return found


def _reached(info: RunInfo, compact: str, metric: Metric) -> float | None:
    """Return the metric at the point of the run's sweep that corresponds to a compact folder such as `unit-0.9`.

    The name "" stands for the unpruned network.
    """
    assert info.measured is not None
    points = info.measured.points
    points = points[(points["split"] == the_split(points)) & (points["scores"] == "own")]
    if not compact:
        whole = unpruned_points(points)
        return float(whole[metric.name].iloc[0]) if len(whole) else None
    granularity, _, sparsity = compact.rpartition("-")
    at = points[(points["granularity"] == granularity) & np.isclose(points["sparsity"], to_float(sparsity))]
    # A compact network has its BatchNorm, if any, recalibrated.
    at = at.sort_values("batch_norm", key=lambda norms: norms != "recalibrated", kind="stable")
    return float(at[metric.name].iloc[0]) if len(at) else None


def learning_plots(collected: Collected, plots: Plots) -> Tabs | None:
    """Return one tab per split and metric in metrics.csv, with validation and headline metrics first."""
    metrics = [metric for metric, _ in collected.metrics] or [LOSS]
    panels: dict[str, object] = {}
    learned = {}
    for name, runs in collected.columns.items():
        with suppress(*UNREADABLE):
            learned[name] = read_metrics([info.run for info in runs])
    for split in ("validation", "train"):
        for metric in metrics:
            curves = {name: learning_curves(rows, f"{split}_{metric.name}") for name, rows in learned.items()}
            curves = {name: rows for name, rows in curves.items() if len(rows)}
            if curves:
                label = metric_label(split, metric)
                panels[label] = plots.over_epochs(curves, metric, label)
    return tabs(panels) if panels else None


def certificates_table(collected: Collected) -> DataTable | None:
    """Return a table with one row per network, execution method and batch size."""
    rows = []
    for info in collected.runs:
        for certificate in info.certificates:
            for row in certificate.rows:
                what = [collected.names.get(info.run, info.name), show(info.config.get("seed", "")), certificate.name]
                words = [row.get(name, "") for name in ("network", "way", "batch", "unit", "threads")]
                sizes = [to_float(row.get(name)) for name in ("bytes", "flops", "parameters")]
                rows.append([*what, *words, *sizes, *(to_float(row.get(name)) for name in _TIMES.values())])
    heads = ["column", "seed", "pruned", "network", "executed by", "batch", "unit", "threads", "bytes", "FLOPs"]
    if not rows:
        return None
    columns = dict(zip([*heads, "parameters", *_TIMES], map(list, zip(*rows, strict=True)), strict=True))
    return table(columns, {"ms": 3, "per second": 0, "faster by": 2})
