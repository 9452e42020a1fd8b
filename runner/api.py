"""The Python API: train, load and find runs from a notebook or a script.

import runner

result = runner.train("model=resnet32", "dropout=targeted")
result = runner.load("outputs/train/digits-resnet32-targeted-…/seed0")
model = result.model(sparsity=0.75)
for result in runner.find("outputs", dropout="targeted"):
    print(result.folder, result.pruning)
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import runs
from runner.errors import ConfigError
from runner.files import read_rows
from runner.runs import Run

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from runner.experiment import Experiment


class Result:
    """One run folder: its configuration, its results and the trained network.

    Files are read when a property or method is used. Only `model` and `data` import torch.

    Args:
        folder: the run folder.
        config_dir: the folder of your own configurations and classes, if the run uses any.
        device: the device of the network: "auto", "cpu", "cuda", "cuda:N" or "mps".
        data_root: the current location of the data, if it has moved.
    """

    def __init__(
        self,
        folder: str | Path,
        config_dir: str | Path | None = None,
        device: str = "auto",
        data_root: str | Path | None = None,
    ) -> None:
        self.run = Run(Path(folder))
        self._config_dir = None if config_dir is None else Path(config_dir)
        self._device, self._data_root = device, data_root

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.run.folder

    @cached_property
    def config(self) -> dict[str, Any]:
        """The run's configuration, as plain Python values."""
        return self.run.config()

    @property
    def status(self) -> dict[str, Any]:
        """The content of status.json, e.g. the state, times, versions, device and error."""
        return self.run.status()

    @property
    def metrics(self) -> "pd.DataFrame":
        """The training metrics in metrics.csv, one row per epoch."""
        import pandas as pd

        rows = pd.DataFrame(read_rows(self.run.metrics_file))
        return rows.apply(pd.to_numeric)

    @property
    def pruning(self) -> "pd.DataFrame":
        """The results of the pruning sweeps in pruning.csv, one row per evaluation.

        Raises:
            UserError: there are no results, or the file is damaged.
        """
        from runner.reporting.points import read_points

        return read_points(self.run)

    @cached_property
    def _experiment(self) -> "Experiment":
        from runner.experiment import Experiment
        from runner.stored import stored_config

        asked = {"device": self._device, "data": {"root": None if self._data_root is None else str(self._data_root)}}
        return Experiment.from_config(stored_config(self.run, asked, self._config_dir))

    def model(self, sparsity: float = 0.0, granularity: str = "weight", scores: str = "own") -> "nn.Module":
        """Return a copy of the trained network in evaluation mode, without its dropout variant.

        Args:
            sparsity: the fraction, in [0, 1], of each filter's weights (or of each layer's filters, or of the features
                at each place) that is set to zero. If the variant compares members in another scope, as in the sweep.
            granularity: "weight", "unit" (filters), "feature", or another name from `run list granularity`.
            scores: the scores to prune by: "own" (the variant's, or magnitude if it has none) or "magnitude".

        Raises:
            UserError: the run is not finished, or its files are damaged.
            ValueError: an argument is not allowed, or the model cannot be pruned at this granularity.
        """
        import copy

        from runner.config import choices
        from runner.parameters import fraction, one_of
        from runner.pruning.apply import prune
        from runner.pruning.sweep import scope_for
        from runner.runs import scope_of
        from runner.stored import load_scores

        fraction("sparsity", sparsity)
        one_of("granularity", granularity, choices.names("granularity"))
        one_of("scores", scores, ("own", "magnitude"))
        experiment = self._experiment
        model = copy.deepcopy(experiment.model)
        experiment.load(self.run, model)
        if sparsity:
            own = load_scores(self.run, experiment.device).get(granularity) if scores == "own" else None
            (part,) = choices.settle("granularity", granularity)
            scope = scope_for(part, "auto", scope_of(self.run.status()))
            prune(model, sparsity, granularity, scores=own, scope=scope)
        return model.eval()

    @property
    def data(self) -> Any:
        """The run's data set, with `splits`, `eval_batches(split)` and `train_batches(batch_size, seed)`."""
        return self._experiment.data

    def __repr__(self) -> str:
        return f"Result({str(self.folder)!r})"


def train(*overrides: str, config_dir: str | Path | None = None) -> Result:
    """Train and sweep one run, like the command `run train OVERRIDES…`. A finished run is not trained again.

    Args:
        overrides: options as on the command line, such as "model=resnet32" or "dropout.alpha=0.5".
        config_dir: the folder of your own configurations and classes.

    Raises:
        UserError: an option is invalid, or training failed. The message says what is expected.
    """
    from runner.config.compose import Composer
    from runner.running import execute

    folder = None if config_dir is None else Path(config_dir)
    config = Composer("train", folder).single(overrides)
    if config["processes"] > 1:
        raise ConfigError(
            f"processes={config['processes']}: works only on the command line, with run train or torchrun"
        )
    run, _ = execute(config, overrides, foreign=folder is not None)
    return Result(run.folder, config_dir)


def load(folder: str | Path, **options: Any) -> Result:
    """Load one run.

    Args:
        folder: a run folder, or a folder that contains exactly one.
        options: keyword arguments of `Result`.

    Raises:
        ConfigError: the folder does not exist, or does not contain exactly one run.
    """
    found = runs.find_runs([folder])
    if len(found) > 1:
        raise ConfigError(f"{folder} holds {len(found)} runs; runner.find({str(folder)!r}) gives all of them")
    return Result(found[0].folder, **options)


def find(folder: str | Path = "outputs", **wanted: Any) -> list[Result]:
    """Find the finished runs that have the given option values, sorted by path.

    Args:
        folder: the folder to search, including its subfolders.
        wanted: the required value, or list of possible values, of each option. The name of a group stands for its
            choice, as in `dropout="targeted"`; an option inside a group is written with two underscores, as in
            `dropout__alpha=0.66`.

    Raises:
        ConfigError: the folder does not exist or contains no run.
        DamagedRun: the status or configuration of a run cannot be read.
    """
    from runner.config.rules import leaves
    from runner.reporting.finding import matches

    asked = {name.replace("__", "."): value for name, value in wanted.items()}

    def fits(config: Mapping[str, Any]) -> bool:
        return matches(dict(leaves(config)), asked)

    found = [run for run in runs.find_runs([folder]) if run.state() == "finished"]
    return [Result(run.folder) for run in found if fits(run.config())]


def load_compact(path: str | Path, trusted: str | None = None, width: float | None = None) -> "nn.Module":
    """Load a network that `run compact` wrote, in evaluation mode, on the CPU. The original run is not needed.

    Args:
        path: the network's folder, or a packed file. No code in the files is executed, so they need not be trusted.
        trusted: your own class that the network is built from, such as "my_file:Net". A network that needs such a class
            cannot be loaded without this argument.
        width: the fraction of the features to use, in (0, 1], for an elastic network (`run compact FOLDER widths=[…]`).
            None means 1.

    Raises:
        UserError: a file is missing or damaged or names an unknown class, the width is out of range, or a width was
            given for a network that has only one.
    """
    from runner.compaction.elastic import load_network
    from runner.config.trust import trust

    if trusted is not None:
        trust(trusted)
    return load_network(path, width)
