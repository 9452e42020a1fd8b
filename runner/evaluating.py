"""Evaluate trained networks: compute their metrics and write predictions to a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.config.build import target
from runner.errors import ConfigError
from runner.files import write_rows
from runner.networks import Network
from runner.reporting.formats import NONE, metric_label, number
from runner.reporting.writing import padded
from runner.tasks.classification import Classification
from runner.tasks.metrics import Metric, by_name


def check_predictions(place: str, configs: Sequence[dict[str, Any]]) -> None:
    """Raise ConfigError unless there is exactly one network and its task is classification."""
    if len(configs) > 1:
        raise ConfigError(f"predictions={place}: expected one network per file, but there are {len(configs)}")
    if not issubclass(target(configs[0], "task"), Classification):
        task = configs[0]["task"]["name"]
        raise ConfigError(f"predictions={place}: expected a run of task=classification, not task={task}")


def measure(network: Network, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the name, number of non-zero parameters and metrics of a network; write its predictions if requested."""
    split, data, task = asked["split"], network.experiment.data, network.experiment.task
    if split not in data.splits:
        raise ConfigError(f"split={split}: {network.source.path} has {', '.join(data.splits)}")
    limit = asked["limit"] or network.sweeper.limit
    with network.sweeper.context():
        metrics = task.evaluate(network.model, data.eval_batches(split, limit))
        if asked["predictions"] is not None and isinstance(task, Classification):
            batches = task.predictions(network.model, data.eval_batches(split, limit))
            pairs = [pair for batch in batches for pair in zip(*batch, strict=True)]
            write_predictions(Path(asked["predictions"]), pairs)
    metrics.pop("samples", None)
    nonzero = sum(int(parameter.count_nonzero()) for parameter in network.model.parameters())
    about = {"network": str(network.source.path), "pruned": network.pruning, "non-zero parameters": nonzero}
    return {**about, **metrics}


def write_predictions(path: Path, pairs: Sequence[tuple[int, int]]) -> None:
    """Write a CSV file with the index, label and predicted class of each image, in the order of the split."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ("index", "label", "predicted")
    write_rows(path, columns, [dict(zip(columns, (i, *pair), strict=True)) for i, pair in enumerate(pairs)])


def table(rows: Sequence[dict[str, Any]], split: str, declared: Mapping[str, Metric]) -> list[str]:
    """Format the results as a Markdown table. Networks of different tasks may have different metrics."""
    counts = ("non-zero parameters", "examples")
    about = ("network", "pruned", *counts)
    names = dict.fromkeys(name for row in rows for name in row if name not in about)
    metrics = [declared.get(name, by_name(name)) for name in names]
    head = ["network", "pruned", counts[0], *(metric_label(split, metric) for metric in metrics), counts[1]]
    cells = [
        [
            *(row["network"], row["pruned"], f"{row[counts[0]]:,}"),
            *(number(row[one.name], one) if one.name in row else NONE for one in metrics),
            f"{row[counts[1]]:,}",
        ]
        for row in rows
    ]
    return padded([head, *cells])
