"""run evaluate FOLDER… [options]: evaluate the networks of finished runs, whole, pruned or compact, on any split

  run evaluate outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0
  run evaluate outputs/train sparsity=0.9 granularity=weight split=validation
  run evaluate outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0 predictions=predicted.csv
  run evaluate outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0/compact/unit-0.5

Prints one table with a row for each network: all runs at or below the folders, and the compact networks (run compact)
whose own folders are given, which are evaluated on the data of their run. Only predictions are written to a file.
"""

from collections.abc import Sequence
from pathlib import Path

from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.evaluating import check_predictions, measure, table
from runner.networks import check_pruning, configurations, find_sources, opened
from runner.rules import one_of
from runner.tasks.metrics import Metric, of_task


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Print a table with one row per network."""
    options = Composer("evaluate", config_dir).single(overrides)
    check_each(options, {"split": one_of("train", "validation", "test")})
    sources = find_sources(folders)
    options = check_pruning(options, sources, config_dir)
    configs = configurations(sources, options, config_dir)
    if options["predictions"] is not None:
        check_predictions(options["predictions"], [config for _, config in configs])
    rows, declared = [], dict[str, Metric]()
    for source, config in configs:
        with opened(source, config, options) as network:
            rows.append(measure(network, options))
            declared |= of_task(network.experiment.task)
    print("\n".join(table(rows, options["split"], declared)))
    if options["predictions"] is not None:
        print(options["predictions"])
    return 0
