"""Format numbers and names for display: percentages, metrics, durations and titles."""

import math
from collections.abc import Mapping
from typing import Any

from runner.config.choices import label
from runner.tasks.metrics import Metric

BATCH_NORMS = {"kept": "BatchNorm kept", "recalibrated": "BatchNorm recalibrated", "none": "no BatchNorm"}
# Columns of pruning.csv that are costs of a network → their labels in figures.
COSTS = {"flops": "FLOPs per example", "parameters": "parameters", "bytes": "bytes"}
COUNTS = {"nonzero_weights": "prunable weights left"}  # further horizontal axes
NONE = "–"  # a cell without a value
UNPRUNED = "unpruned"  # name of the row of unpruned networks, where the others begin at a floor


def granularity_label(key: str) -> str:
    """Return the label of a granularity for figures and headings, e.g. `filters`."""
    return label("granularity", key)


def number(value: float, metric: Metric) -> str:
    """Format a metric's value: percentages with two decimals, other values with four significant digits.

    If the metric specifies a number of decimals, it takes precedence.
    """
    if math.isnan(value):
        return NONE
    decimals = 2 if metric.percent and metric.decimals is None else metric.decimals
    return f"{value:#.4g}".rstrip(".") if decimals is None else f"{metric.scale * value:.{decimals}f}"


def mean_and_deviation(mean: float, std: float, metric: Metric) -> str:
    """Format a value as `97.61 ± 0.35`, or as the mean alone if there is no standard deviation."""
    if math.isnan(mean) or math.isnan(std):
        return number(mean, metric)
    return f"{number(mean, metric)} ± {number(std, metric)}"


def difference_and_interval(difference: float, interval: float, metric: Metric) -> str:
    """Format a difference as `+1.25 ± 0.62`, or without its interval if there is none."""
    signed = f"{'+' if difference >= 0 else '−'}{number(abs(difference), metric)}"
    return signed if math.isnan(interval) else f"{signed} ± {number(interval, metric)}"


def percent(fraction: float) -> str:
    """Format a fraction as a percentage without the percent sign, e.g. `75` or `98.5`."""
    return f"{100 * fraction:.6g}"


def duration(seconds: float) -> str:
    """Format a duration, e.g. `48 s`, `1 min 35 s` or `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def metric_label(split: str, metric: Metric) -> str:
    """Return the label of a metric on a split, e.g. `test accuracy (%)`."""
    return f"{split} {metric.label}{' (%)' if metric.percent else ''}"


def run_title(config: Mapping[str, Any]) -> str:
    """Return a run's title from its stored configuration, e.g. `digits · resnet32 · targeted · 50ep · seed 0`."""
    groups = (config.get(group) for group in ("data", "model", "dropout"))
    words = [str(group["name"]) for group in groups if isinstance(group, Mapping) and group.get("name")]
    regularizer = config.get("regularizer")
    if isinstance(regularizer, Mapping) and regularizer.get("name") not in (None, "none"):
        words.append(str(regularizer["name"]))
    schedule = config.get("schedule")
    if isinstance(schedule, Mapping) and schedule.get("length"):
        words.append(str(schedule["length"]))
    if "seed" in config:
        words.append(f"seed {config['seed']}")
    return " · ".join(words)
