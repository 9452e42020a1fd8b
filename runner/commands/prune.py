"""run prune FOLDER… [options]: sweep finished runs again with other options, without training

  run prune outputs/train/digits-resnet32-none-1a2b3c4d/seed0 prune.criterion=random
  run prune outputs/train prune.sparsities=[0.85,0.97] prune.scope=global

Adds rows to each run's pruning.csv; rows that are already there are not measured again.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from runner import runs
from runner.config.compose import Composer
from runner.errors import ForeignRun
from runner.experiment import Experiment
from runner.reporting.summary import pruning_summary
from runner.runs import Run
from runner.stored import stored_config
from runner.training.machine import slow_precision
from runner.training.progress import Progress


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Sweep every run at or below the folders with the same options.

    Runs with classes outside this package are skipped, unless --config-dir contains the classes or there are no others.
    """
    asked = Composer("prune", config_dir).single(overrides)
    found = runs.find_runs(folders)
    configs: dict[Run, dict[str, Any]] = {}
    foreign: list[ForeignRun] = []
    for run in found:
        try:
            configs[run] = stored_config(run, asked, config_dir)
        except ForeignRun as error:  # a single run should not stop the others
            foreign.append(error)
    if not configs:
        raise foreign[0]
    for left_out in foreign:
        print(f"run: left out {left_out}", file=sys.stderr)
    for run, config in configs.items():
        prune_run(run, {**config, "prune": asked["prune"]})
    return 0


def prune_run(run: Run, config: Mapping[str, Any]) -> None:
    """Sweep one finished run."""
    with run.locked():
        if threads := run.threads():
            torch.set_num_threads(threads)
        experiment = Experiment.from_config(config)
        if warning := slow_precision(experiment.precision, experiment.device):
            print(f"run: {warning}", file=sys.stderr)
        experiment.load(run)
        experiment.sweep(run, Progress())
        print(pruning_summary(run))
        print(run.folder)
