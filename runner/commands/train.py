"""run train [options]: train a network, then prune it to many sparsities

  run train model=resnet32 dropout=targeted              on scikit-learn's digits, one to three minutes
  run train data=cifar10 data.root=~/data schedule.length=30ep
  run train dropout=targeted dropout.alpha=0.5 dropout.gamma=0.5
  run train -m dropout=none,targeted,ramping seed=0,1,2  all combinations; finished ones are not run again
  run train -m dropout=none,targeted hydra/launcher=parallel    one job per processor core
  run train dropout=targeted debug=smoke                 any configuration in seconds, under outputs/smoke

Prints and writes how much of the task's metric remains at each sparsity. A killed run continues from its last
checkpoint when the same command is run again, and gives the same results. Options of a component are prefixed with the
name of its group, as in dropout.alpha=0.66 (drop rate) and dropout.gamma=0.75 (targeted fraction).

Flags
  -m, --multirun      several values for an option, separated by commas: one run for each combination
  --config-dir PATH   your own folder with YAML files (model/mine.yaml) and the classes they name
  --cfg job           print the composed configuration and stop

Exit codes: 0 done, 1 a run failed, 2 bad input and nothing written, 130 interrupted.
"""

from collections.abc import Sequence
from pathlib import Path

from runner.config.compose import Composer
from runner.cores import is_one_of_several
from runner.multirun import hydra_main, run_all, run_one


def main(
    folders: Sequence[str],
    overrides: Sequence[str],
    config_dir: Path | None = None,
    *,
    multirun: bool = False,
    hydra: Sequence[str] = (),
) -> int:
    """Train and sweep what is missing, and print the results of pruning.

    Args:
        overrides: the options.
        config_dir: the folder of the user's own configurations and classes.
        multirun: whether options may have several values.
        hydra: all words after the command, if they include one of Hydra's own flags.
    """
    if hydra:
        return hydra_main(hydra)
    composer = Composer("train", config_dir)
    if multirun:
        return run_all(composer, overrides)
    config = composer.single(overrides)
    if config["processes"] > 1 and not is_one_of_several():
        from runner.launching import start  # imports torch

        words = ["train", *overrides, *(["--config-dir", str(config_dir)] if config_dir else [])]
        return start(words, config["processes"])
    return run_one(config, overrides, foreign=config_dir is not None)
