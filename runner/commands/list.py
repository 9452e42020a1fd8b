"""run list: what there is to choose from, and what ran."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import runs
from runner.config.compose import CONF, options
from runner.errors import ConfigError, UserError
from runner.files import read_rows
from runner.runs import Run

GROUPS = ("model", "dropout", "regularizer", "data", "task", "schedule", "prune", "experiment", "debug", "table")


def list_(words: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: groups and their files, one line each; or the runs below some folders (default outputs)."""
    if overrides:
        raise ConfigError(f"{overrides[0]}: run list has no options")
    if words and words[0] == "runs":
        return _runs(words[1:] or ["outputs"])
    folders = [CONF] + ([config_dir] if config_dir else [])
    groups = list(words) or [group for group in GROUPS if any((folder / group).is_dir() for folder in folders)]
    for group in groups:
        found = {name: line for folder in folders for name, line in options(group, folder).items()}
        if not found or group not in GROUPS:
            raise ConfigError(f"run list {group}: allowed is runs, {', '.join(GROUPS)}")
        print(f"{group}=")
        width = max(map(len, found))
        for name, line in found.items():
            print(f"  {name:{width}}  {line}".rstrip())
    return 0


def _runs(folders: Sequence[str]) -> int:
    if list(folders) == ["outputs"] and not Path("outputs").is_dir():
        print("no runs yet: there is no folder outputs here")
        return 0
    for run in runs.find_runs(folders):
        try:
            state, results = run.state(), _results(run)
        except (UserError, KeyError, TypeError, ValueError) as error:
            state, results = "damaged", str(error)
        print(f"{state:12} {run.folder}  {results}".rstrip())
    return 0


def _results(run: Run) -> str:
    """The test headline at a few sparsities, or what went wrong, or how far it is."""
    status = run.status()
    if status.get("error"):
        return str(status["error"])
    rows = [row for row in run.pruning_rows() if _shown(row)]
    if not rows:
        metrics = read_rows(run.metrics_file)
        return f"epoch {metrics[-1]['epoch']}" if metrics else ""
    metric = status["headline"]["metric"]
    parts = []
    for granularity in dict.fromkeys(row["granularity"] for row in rows):
        values = [row for row in rows if row["granularity"] == granularity]
        shown = ", ".join(f"{float(r['sparsity']):.0%} {100 * float(r[metric]):.1f}" for r in values)
        parts.append(f"{granularity}: {shown}")
    return f"{metric} at sparsity " + "; ".join(parts)


def _shown(row: Mapping[str, Any]) -> bool:
    usual = row["split"] == "test" and row["batch_norm"] != "recalibrated"
    return (
        usual and (row["scope"], row["scores"]) == ("layer", "own") and float(row["sparsity"]) in (0.0, 0.5, 0.75, 0.9)
    )
