"""The source runs of `run ticket`, read and checked before anything is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.analyses.sources import Sources
from runner.config import choices
from runner.config.length import Length
from runner.dropout.base import Variant
from runner.errors import ConfigError, damaged
from runner.experiment import Experiment
from runner.reporting.columns import common_title
from runner.runs import TICKET_DROPOUT, Run
from runner.tasks.metrics import Metric, headline_of_task


@dataclass(frozen=True)
class Source:
    """A finished run for which tickets are requested."""

    column: str  # name of the group of runs that differ only in their seed
    run: Run
    config: dict[str, Any]
    variant: Variant
    steps_per_epoch: int
    rewind: int  # step to rewind to
    steps: int  # number of steps for which it was trained
    seconds: float
    metric: Metric

    @property
    def plain(self) -> bool:
        return type(self.variant) is Variant


def find_sources(
    found: Sequence[Run], asked: dict[str, Any], config_dir: Path | None
) -> tuple[list[Source], str, list[str]]:
    """Read the source runs and check that they support the request.

    Returns:
        The runs, starting with those without dropout; a title with their common options; and notes on runs left out.

    Raises:
        ConfigError: a run doesn't support the request, or the runs' headline metrics differ.
    """
    tickets = {run for run in found if _is_ticket(run)}
    if tickets == set(found):
        raise ConfigError(f"{found[0].folder} is a masked training itself; expected the runs to take masks from")
    given = Sources.of([run for run in found if run not in tickets], asked, config_dir)
    columns = given.columns()
    sources = [_source(name, one.run, given.configs[one.run], asked) for name, one in columns]
    metric = sources[0].metric
    if others := {source.metric.name for source in sources} - {metric.name}:
        raise ConfigError(
            f"the runs' headline metrics differ, {metric.name} and {', '.join(others)}; expected one task"
        )
    if asked["iterations"] > 1 and not any(source.plain for source in sources):
        raise ConfigError(
            f"iterations={asked['iterations']}: this loop trains without dropout; expected at least one run without it"
        )
    return sources, common_title([one for _, one in columns]), given.notes


def _is_ticket(run: Run) -> bool:
    dropout = run.config().get("dropout")
    return isinstance(dropout, Mapping) and dropout.get("_target_") == TICKET_DROPOUT


def _source(column: str, run: Run, config: dict[str, Any], asked: Mapping[str, Any]) -> Source:
    for group in ("data", "model", "dropout", "regularizer"):
        if Path(str(config[group].get("name"))).name != config[group].get("name"):  # it becomes part of a path
            raise damaged(run.config_file, ValueError(f"{group}.name can't be part of a file name"))
    status = run.status()
    try:
        steps, seconds = int(status["steps"]), float(status["seconds"])
        hash_of(run)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(run.status_file, error) from None
    parts = Experiment.from_config(config)
    per_epoch = parts.data.train_batches(config["schedule"]["batch_size"], config["seed"]).steps_per_epoch
    rewind = 0 if asked["rewind"] == "0ep" else Length.parse(asked["rewind"]).steps(per_epoch)
    last = min(steps, Length.parse(asked["length"] or config["schedule"]["length"]).steps(per_epoch))
    if rewind and rewind >= last:
        raise ConfigError(
            f"rewind={asked['rewind']}: expected a point before the end of training, at step {last} ({run.folder})"
        )
    if asked["finetune"] and "learning_rate" not in config["schedule"]:
        raise ConfigError(f"finetune={asked['finetune']}: {run.folder} has no schedule.learning_rate")
    if asked["granularity"] != "auto":
        try:
            choices.builtin("granularity", asked["granularity"]).members(parts.model)
        except ValueError as error:
            raise ConfigError(f"granularity={asked['granularity']}: {error} ({run.folder})") from None
    return Source(column, run, config, parts.variant, per_epoch, rewind, steps, seconds, headline_of_task(parts.task))


def hash_of(run: Run) -> str:
    """Return the first eight digits of a run's hash, as used in folder names."""
    return f"{int(str(run.status()['hash'])[:8], 16):08x}"
