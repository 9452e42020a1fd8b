"""Hyperparameter search for the best networks after pruning, with Optuna.

Optuna (Akiba et al., 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework") proposes values and
stores the study in a SQLite file. Each trial is an ordinary run in its own folder.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from runner.compaction.budget import amount
from runner.config.compose import Composer
from runner.config.space import Space, space_of
from runner.errors import ConfigError, Interrupted, UserError
from runner.experiment import Experiment
from runner.files import write_rows
from runner.reporting.finding import own_sweeps, to_float
from runner.reporting.formats import COSTS, number
from runner.running import execute, settle
from runner.runs import Run
from runner.tasks.metrics import Metric, headline_of_task
from runner.training.callbacks import Callback
from runner.training.loop import Training

PRUNERS = ("none", "median", "halving")
_VALIDATION = "prune.splits=[validation]"
_STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}


class Stopped(UserError):
    """The pruner has stopped a trial, whose folder keeps the checkpoint."""


class Report(Callback):
    """Report the validation metric of every epoch to Optuna, and stop training if the pruner requests it.

    Args:
        trial: the Optuna trial.
        metric: the column of metrics.csv to report.
    """

    def __init__(self, trial: Trial, metric: str) -> None:
        self.trial, self.metric = trial, metric

    def on_epoch(self, training: Training, row: Mapping[str, Any]) -> None:
        value = to_float(row.get(self.metric))
        if math.isnan(value):
            return
        self.trial.report(value, int(row["epoch"]))
        if self.trial.should_prune() and training.step < training.steps:
            raise Stopped(f"stopped by run search after epoch {int(row['epoch'])}: {self.metric} {value:.4g}")


def search(composer: Composer, overrides: Sequence[str], options: Mapping[str, Any]) -> int:
    """Run the missing trials, print each of them and the best one, and return the exit code.

    Args:
        overrides: overrides of run train, including those with values to search.
        options: the options in conf/search.yaml.

    Raises:
        ConfigError: there is nothing to search, or an option is invalid.
        UserError: no trial has finished, or another process is running the same search.
        Interrupted: the user pressed Ctrl-C.
    """
    fixed, space = space_of(composer, overrides)
    fixed = _validation_only(fixed, options)
    first = composer.single([*fixed, *(one.first for one in space.values())])
    _check(first, options)
    foreign, folder = composer.config_dir is not None, _folder(first, fixed, space, options)
    with Run(folder).locked():  # like a run, a study is continued by one process at a time
        metric = _headline(first, foreign)
        study = _study(folder, metric, options)
        print(f"study: {folder / 'study.db'}", flush=True)
        distributions = {name: one.distribution for name, one in space.items()}
        try:
            while len(study.get_trials(deepcopy=False, states=tuple(_STATES))) < options["trials"]:
                _run_trial(study, composer, fixed, space, distributions, options, metric)
        except KeyboardInterrupt:
            raise Interrupted("the same command goes on with the trial") from None
        return _conclude(study, folder, space, metric)


def _run_trial(
    study: optuna.Study,
    composer: Composer,
    fixed: Sequence[str],
    space: Mapping[str, Space],
    distributions: Mapping[str, BaseDistribution],
    options: Mapping[str, Any],
    metric: Metric,
) -> None:
    """Train and judge one network. An invalid option ends the search; other errors only fail the trial."""
    trial = study.ask(dict(distributions))
    words = [*fixed, *(one.word(trial.params[name]) for name, one in space.items())]
    config = composer.single(words)
    report = Report(trial, f"validation_{metric.name}")

    def training_of(experiment: Experiment) -> Training:
        experiment.callbacks.append(report)
        return experiment.training()

    try:
        run, _ = execute(config, words, composer.config_dir is not None, training_of=training_of)
        trial.set_user_attr("folder", str(run.folder))
        study.tell(trial, judged(run, metric, options))
    except Stopped as stopped:
        trial.set_user_attr("error", str(stopped))
        study.tell(trial, state=TrialState.PRUNED)
    except UserError as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)
        if isinstance(error, ConfigError):
            raise
    print(_line(study.get_trials(deepcopy=False)[trial.number], space, metric), flush=True)


def judged(run: Run, metric: Metric, options: Mapping[str, Any]) -> float:
    """Return the best validation metric of a run's pruned networks at the requested sparsity or within the budget.

    Networks pruned by other scores, in another scope or with another floor than the run's own are ignored.

    Raises:
        UserError: there is no such network.
    """
    status = run.status()
    rows = own_sweeps(run.pruning_rows(status), status, run.config(status), split="validation")
    if options["sparsity"] is not None:
        rows = [row for row in rows if math.isclose(to_float(row["sparsity"]), options["sparsity"])]
    for cost in COSTS:
        if options[cost] is not None:
            rows = [row for row in rows if to_float(row.get(cost)) <= amount(options[cost])]
    values = [value for row in rows if not math.isnan(value := to_float(row[metric.name]))]
    if not values:
        raise UserError("no network of its sweep is within the budget")
    return max(values) if metric.higher_is_better else min(values)


def _validation_only(fixed: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """Add the overrides that limit a trial's sweep to validation examples and to the requested sparsity."""
    names = {text.lstrip("+").partition("=")[0] for text in fixed}
    more = [] if "prune.splits" in names else [_VALIDATION]
    if options["sparsity"] is not None and not names & {"prune", "prune.sparsities"}:
        more.append(f"prune.sparsities=[{options['sparsity']}]")
    return [*fixed, *more]


def _check(config: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    if config["prune"]["splits"] != ["validation"]:
        raise ConfigError(f"prune.splits={config['prune']['splits']}: run search measures validation examples only")
    sparsity, swept = options["sparsity"], config["prune"]["sparsities"]
    if sparsity is not None and not any(math.isclose(sparsity, one) for one in swept):
        raise ConfigError(f"search.sparsity={sparsity}: expected one of prune.sparsities={swept}")
    if config["processes"] > 1 or config["folder"] is not None:
        raise ConfigError(
            "run search trains many runs, each in one process and in its own folder; leave out folder= and processes="
        )


def _folder(
    config: Mapping[str, Any], fixed: Sequence[str], space: Mapping[str, Space], options: Mapping[str, Any]
) -> Path:
    """Return the folder of the study. It depends on the search space and the goal but not on the number of trials."""
    if options["out"] is not None:
        return Path(options["out"])
    goal = {name: options[name] for name in ("sparsity", *COSTS)}
    asked = json.dumps(
        [sorted(fixed), {name: str(one.distribution) for name, one in space.items()}, goal], sort_keys=True
    )
    return Path(config["outputs"]) / "search" / hashlib.sha256(asked.encode()).hexdigest()[:8]


def _headline(config: Mapping[str, Any], foreign: bool) -> Metric:
    """Return the metric that networks are judged by, and check all options before anything is trained."""
    return headline_of_task(Experiment.from_config(settle(config, foreign)).task)


def _study(folder: Path, metric: Metric, options: Mapping[str, Any]) -> optuna.Study:
    """Open or create the study. Trials left unfinished by a killed search are proposed again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{(folder / 'study.db').resolve()}",
        study_name="search",
        direction="maximize" if metric.higher_is_better else "minimize",
        load_if_exists=True,
    )
    trials = study.get_trials(deepcopy=False)
    # With the same seed again, a resumed search would draw the same values again.
    study.sampler = optuna.samplers.TPESampler(seed=options["seed"] + len(trials), n_startup_trials=options["startup"])
    study.pruner = {
        "none": optuna.pruners.NopPruner(),
        "median": optuna.pruners.MedianPruner(n_startup_trials=options["startup"]),
        "halving": optuna.pruners.SuccessiveHalvingPruner(),
    }[options["pruner"]]
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
    return study


def _line(trial: FrozenTrial, space: Mapping[str, Space], metric: Metric) -> str:
    """Format a trial on one line, e.g. `[7] finished  dropout.alpha=0.41  97.22`."""
    words = " ".join(one.word(trial.params[name]) for name, one in space.items() if name in trial.params)
    value = number(trial.value, metric) if trial.value is not None else str(trial.user_attrs.get("error", ""))
    return f"[{trial.number + 1}] {_STATES[trial.state]:8}  {words}  {value}".rstrip()


def _conclude(study: optuna.Study, folder: Path, space: Mapping[str, Space], metric: Metric) -> int:
    """Write trials.csv, and print the best trial and how to continue."""
    trials = study.get_trials(deepcopy=False, states=tuple(_STATES))
    columns = ["trial", "state", f"validation_{metric.name}", *space, "folder", "error"]
    rows = [
        {
            **dict.fromkeys(columns, ""),
            **{"trial": trial.number + 1, "state": _STATES[trial.state]},
            **({f"validation_{metric.name}": f"{trial.value:.9g}"} if trial.value is not None else {}),
            **{name: one.shown(trial.params[name]) for name, one in space.items() if name in trial.params},
            **{name: trial.user_attrs.get(name, "") for name in ("folder", "error")},
        }
        for trial in trials
    ]
    write_rows(folder / "trials.csv", columns, rows)
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not finished:
        raise UserError(f"no trial has finished; {folder / 'trials.csv'} says why")
    best = study.best_trial
    print(f"\nthe best of {len(trials)}, by validation {metric.label}:\n{_line(best, space, metric)}")
    print(f"run prune {best.user_attrs['folder']} measures it on test examples")
    print(folder / "trials.csv")
    return 0
