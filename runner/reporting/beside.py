"""Published columns to show beside our own results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from runner.reporting.choice import Choice, PublishedColumn
from runner.reporting.finding import matches
from runner.reporting.gather import Measured
from runner.reporting.points import own_scope
from runner.reporting.published import published_values
from runner.tasks.metrics import Metric


@dataclass(frozen=True)
class PublishedValues:
    """A published column and the name of our column that it is compared with."""

    label: str  # e.g. `paper: targeted`
    own: str
    published: PublishedColumn
    values: pd.DataFrame  # mean and std by sparsity


def published_beside(
    own: Mapping[str, Measured], choice: Choice, granularity: str, batch_norm: str, metric: Metric
) -> list[PublishedValues]:
    """Return the chosen published columns that have a matching run.

    The list is empty if the measurements differ from the published ones in kind: if the split, the scope or the metric
    is different, the scores are random, or BatchNorm is recalibrated.

    Args:
        own: one run of each column, by column name.
    """
    if not choice.as_published or batch_norm == "recalibrated":
        return []
    fitting = [p for p in choice.published if (p.granularity, p.metric) == (granularity, metric.name)]
    found = []
    for published, label in zip(fitting, _labels(fitting), strict=True):
        fits = (n for n, run in own.items() if matches(run.config, published.runs) and own_scope(run.run) == "layer")
        name = next(fits, None)
        if name is not None:
            values = published_values(published.file, published.head, in_percent=metric.percent)
            found.append(PublishedValues(label, name, published, values))
    return found


def _labels(published: Sequence[PublishedColumn]) -> list[str]:
    """Return labels such as `paper: targeted`, with the full published heading if two would otherwise be equal."""
    names = [str(column.runs.get("dropout", column.head)) for column in published]
    return [
        f"paper: {name if names.count(name) == 1 else column.head}"
        for name, column in zip(names, published, strict=True)
    ]
