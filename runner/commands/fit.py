"""run fit: the smallest pruned network within a budget, chosen on validation rows, confirmed on test rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from runner import runs
from runner.compaction.budget import KEY, amount, choose, pareto
from runner.config.compose import Composer
from runner.config.rules import check_each, show
from runner.errors import ConfigError
from runner.files import write_frame, write_text
from runner.reporting.drawing import Curve, Panel, Style, draw
from runner.reporting.formats import COSTS, NONE, metric_label, number, percent
from runner.reporting.gather import gather
from runner.reporting.writing import padded
from runner.rules import above, either, one_of
from runner.tasks.metrics import Metric

SHOWN = 6


def fit(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: prints the choice and the runners-up; writes table.csv, table.md and Pareto figures."""
    if not folders:
        raise ConfigError("run fit needs run folders: run fit outputs/train/… accuracy_drop=0.01")
    asked = Composer("fit", config_dir).single(overrides)
    rules = {"accuracy_drop": either(None, above(0)), "smallest": one_of(*COSTS), **dict.fromkeys(COSTS, _amount)}
    check_each(asked, rules)
    limits = {cost: amount(asked[cost]) for cost in COSTS if asked[cost] is not None}
    if not limits and asked["accuracy_drop"] is None:
        raise ConfigError("run fit needs a budget: accuracy_drop=0.01, parameters=100k, bytes=1MB or flops=10M")
    measured, notes = gather(runs.find_runs(folders), {})
    if len({run.headline.name for run in measured}) > 1:
        raise ConfigError("the runs are judged by different metrics; name folders of one task")
    headline = measured[0].headline
    metric, higher = headline.name, headline.higher_is_better
    points = pd.concat([run.points.assign(run=str(run.run.folder)) for run in measured], ignore_index=True)
    points = points.reindex(columns=list(dict.fromkeys([*points.columns, *COSTS])))
    there = list(points["granularity"].unique())
    check_each(asked, {"granularity": one_of("auto", *there)})
    if asked["granularity"] != "auto":
        points = points[(points["granularity"] == asked["granularity"]) | (points["sparsity"] + points["floor"] == 0)]
    try:
        valid = points[points["split"] == "validation"]
        found = choose(valid, metric, higher, limits, asked["accuracy_drop"], asked["smallest"])
    except ValueError as error:
        again = "delete a run's pruning.csv and run prune FOLDER prune.splits=[validation,test] measures it again"
        raise ConfigError(f"the runs' validation sweeps hold {error}; {again}") from None
    test = points.loc[points["split"] == "test", [*KEY, metric]].rename(columns={metric: f"test_{metric}"})
    table = found.candidates.merge(test.drop_duplicates(KEY), on=KEY, how="left")
    table = table.rename(columns={metric: f"validation_{metric}"})
    columns = [*KEY, *COSTS, f"validation_{metric}", f"test_{metric}", "within"]
    text = _text(table, headline, found.met, notes)
    out = Path(asked["out"] or Path(asked["outputs"]) / "fit")
    out.mkdir(parents=True, exist_ok=True)
    write_frame(out / "table.csv", table[columns])
    write_text(out / "table.md", text)
    for cost in ("bytes", "flops"):
        front = pareto(found.candidates, cost, metric, higher)
        every = found.candidates.sort_values(cost)
        drawn = {"all networks": (every, "s", ""), "Pareto front": (front, "o", "-")}
        curves = [
            Curve(name, Style(colour, marker, line), list(part[cost]), list(headline.scale * part[metric]))
            for colour, (name, (part, marker, line)) in zip(("#56B4E9", "#000000"), drawn.items(), strict=True)
        ]
        path = out / f"pareto_{cost}.png"
        draw([Panel("", curves)], 1, "", metric_label("validation", headline), path, headline.top, COSTS[cost])
    print(text)
    print(*(out / name for name in ("table.csv", "table.md", "pareto_bytes.png", "pareto_flops.png")), sep="\n")
    return 0


def _amount(value: Any) -> str | None:
    try:
        if value is not None:
            amount(value)
    except ValueError as error:
        return f"null or {error}"
    return None


def _text(table: pd.DataFrame, metric: Metric, met: bool, notes: Sequence[str]) -> str:
    head = ["network", *COSTS, f"validation {metric.name}", f"test {metric.name}", "within the budget"]
    rows = []
    for row in table.head(SHOWN).to_dict("records"):
        what = f"{row['run']} granularity={row['granularity']} sparsity={percent(max(row['sparsity'], row['floor']))} %"
        rules = "".join(f" {row[name]}" for name in ("scope", "scores", "batch_norm"))
        values = [number(row[f"{split}_{metric.name}"], metric) for split in ("validation", "test")]
        rows.append([what + rules, *(f"{row[cost]:,.0f}" for cost in COSTS), *values, show(bool(row["within"]))])
    first = rows[0]
    begin = "The choice" if met else "No network is within the budget; the nearest is"
    test = "not measured" if first[5] == NONE else first[5]
    told = f"{begin}: {first[0]}: {first[3]} bytes, validation {metric.name} {first[4]}, test {metric.name} {test}."
    return "\n".join([told, "", *padded([head, *rows]), *(["", *notes] if notes else [])]) + "\n"
