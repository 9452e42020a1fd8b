"""Find the smallest pruned network within a budget, chosen on validation data and confirmed on test data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from runner.analyses.output import folder_of, write_tables
from runner.compaction.budget import KEY, Choice, amount, choose, pareto, seconds, within_latency
from runner.config.rules import check_each, show
from runner.errors import ConfigError
from runner.reporting.drawing import Curve, Panel, Style, draw
from runner.reporting.formats import COSTS, NONE, metric_label, number, percent
from runner.reporting.gather import concatenate, gather
from runner.reporting.writing import padded
from runner.rules import one_of
from runner.runs import Run
from runner.tasks.metrics import Metric

SHOWN = 6


def study(found_runs: Sequence[Run], options: Mapping[str, Any], config_dir: Path | None) -> tuple[str, list[Path]]:
    """Choose a network, and return the page and the paths of the written tables and Pareto figures.

    Raises:
        ConfigError: the runs have different headline metrics or no sweep on validation data.
    """
    limits = {cost: amount(options[cost]) for cost in COSTS if options[cost] is not None}
    measured, notes = gather(found_runs, {})
    if len({run.headline.name for run in measured}) > 1:
        raise ConfigError("the runs' headline metrics differ; expected folders of one task")
    headline = measured[0].headline
    metric, higher = headline.name, headline.higher_is_better
    points = concatenate(measured)
    points["run"] = points["run"].map(lambda number: str(measured[number].run.folder))
    points = points.reindex(columns=list(dict.fromkeys([*points.columns, *COSTS])))
    there = list(points["granularity"].unique())
    check_each(options, {"granularity": one_of("auto", *there)})
    if options["granularity"] != "auto":
        points = points[(points["granularity"] == options["granularity"]) | (points["sparsity"] + points["floor"] == 0)]
    try:
        valid = points[points["split"] == "validation"]
        found = choose(valid, metric, higher, limits, options["accuracy_drop"], options["smallest"])
    except ValueError as error:
        again = "delete a run's pruning.csv and run prune FOLDER prune.splits=[validation,test] measures it again"
        raise ConfigError(f"the runs' validation sweeps hold {error}; {again}") from None
    if options["latency"] is not None:
        limit = 1e3 * seconds(options["latency"])
        found = within_latency(found, limit, lambda rows: _latencies(rows, options, config_dir))
        notes = [*notes, _measured_again(found, options, config_dir)]
    test = points.loc[points["split"] == "test", [*KEY, metric]].rename(columns={metric: f"test_{metric}"})
    table = found.candidates.merge(test.drop_duplicates(KEY), on=KEY, how="left")
    table = table.rename(columns={metric: f"validation_{metric}"})
    measured_columns = [name for name in ("latency_ms", "executed_by") if name in table]
    columns = [*KEY, *COSTS, *measured_columns, f"validation_{metric}", f"test_{metric}", "within"]
    text = _text(table, headline, found.met, notes)
    out = folder_of(options, "fit")
    files = write_tables(out, {"table": table[columns]}, text)
    over = {cost: COSTS[cost] for cost in ("bytes", "flops")}
    if "latency_ms" in table and table["latency_ms"].notna().any():
        over["latency_ms"] = f"microseconds, batch {options['batch']}"
    for cost, label in over.items():
        unit = 1e3 if cost == "latency_ms" else 1
        every = found.candidates[found.candidates[cost] > 0].sort_values(cost)  # the axis is logarithmic
        if every.empty:
            continue
        front = pareto(every, cost, metric, higher)
        drawn = {"all networks": (every, "s", ""), "Pareto front": (front, "o", "-")}
        curves = [
            Curve(name, Style(colour, marker, line), list(unit * part[cost]), list(headline.scale * part[metric]))
            for colour, (name, (part, marker, line)) in zip(("#56B4E9", "#000000"), drawn.items(), strict=True)
        ]
        files.append(out / f"pareto_{cost.removesuffix('_ms')}.png")
        draw([Panel("", curves)], 1, "", metric_label("validation", headline), files[-1], headline.top, label)
    return text, files


def _latencies(
    rows: Sequence[Mapping[str, Any]], options: Mapping[str, Any], config_dir: Path | None
) -> list[tuple[float, str]]:
    from runner.compaction.latency import latencies  # only this budget needs compilers and exporters

    return latencies(rows, options["batch"], options["data"], config_dir)


def _measured_again(found: Choice, options: Mapping[str, Any], config_dir: Path | None) -> str:
    """Repeat the timing of the first network, because the minimum of many timings is biased, and return a note."""
    first = found.candidates.iloc[0]
    if pd.isna(first["latency_ms"]):
        return "no latency was measured because no network is within the rest of the budget"
    ((again, way),) = _latencies([dict(first)], options, config_dir)
    return (
        f"batch {options['batch']}: the first network takes {first['latency_ms']:.3g} ms with {first['executed_by']}, "
        f"interleaved with the others, and {again:.3g} ms with {way} when measured again"
    )


def _text(table: pd.DataFrame, metric: Metric, met: bool, notes: Sequence[str]) -> str:
    timed = ["latency_ms"] if "latency_ms" in table else []
    head = [
        "network",
        *COSTS,
        *(["ms"] if timed else []),
        f"validation {metric.name}",
        f"test {metric.name}",
        "within the budget",
    ]
    rows = []
    for row in table.head(SHOWN).to_dict("records"):
        what = f"{row['run']} granularity={row['granularity']} sparsity={percent(max(row['sparsity'], row['floor']))} %"
        rules = "".join(f" {row[name]}" for name in ("scope", "scores", "batch_norm"))
        values = [number(row[f"{split}_{metric.name}"], metric) for split in ("validation", "test")]
        took = [NONE if pd.isna(row[name]) else f"{row[name]:.3g}" for name in timed]
        rows.append([what + rules, *(f"{row[cost]:,.0f}" for cost in COSTS), *took, *values, show(bool(row["within"]))])
    first = [*rows[0][:4], *rows[0][4 + len(timed) :]]
    begin = "The choice" if met else "No network is within the budget; the nearest is"
    test = "not measured" if first[5] == NONE else first[5]
    answer = f"{begin}: {first[0]}: {first[3]} bytes, validation {metric.name} {first[4]}, test {metric.name} {test}."
    return "\n".join([answer, "", *padded([head, *rows]), *(["", *notes] if notes else [])]) + "\n"
