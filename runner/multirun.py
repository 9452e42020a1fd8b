"""run train: one run or, with -m, several runs. All are checked before the first one starts."""

import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from runner.config.compose import Composer, renamed
from runner.config.paths import CONF
from runner.config.rules import show
from runner.errors import ConfigError, UserError, located
from runner.reporting.finding import Found
from runner.reporting.listing import run_lines
from runner.runs import Run
from runner.workers import train_side_by_side, worker_count

Jobs = list[dict[str, Any]]
# This package's own launchers, not Hydra plugins.
PARALLEL = "runner.workers.train_side_by_side"
CLUSTER = "runner.cluster.train_on_cluster"


def run_one(config: Mapping[str, Any], overrides: Sequence[str] = (), foreign: bool = False) -> int:
    """Train and prune one run, and print its results. An interrupted run is resumed; a finished run is not repeated."""
    from runner.following import follow
    from runner.reporting.summary import pruning_summary
    from runner.running import execute
    from runner.training.distributed import Several, joined

    with joined(config) as processes:
        if isinstance(processes, Several) and not processes.first:
            follow(config, processes, foreign)
            return 0
        run, worked = execute(config, overrides, foreign, processes=processes)
    print(pruning_summary(run))
    if not worked:
        print("already finished, nothing was trained; force=true trains again")
    print(run.folder)
    return 0


def run_all(composer: Composer, overrides: Sequence[str]) -> int:
    """Run all jobs, either in parallel or through Hydra's sweeper and launcher.

    Returns:
        the exit code.

    Raises:
        ConfigError: the configuration of a job is invalid, or two jobs would share a folder.
    """
    jobs, launcher = composer.jobs(overrides)
    if asked := [job["processes"] for job in jobs if job["processes"] > 1]:
        raise ConfigError(f"processes={asked[0]}: works with a single run only, not with -m")
    foreign = composer.config_dir is not None
    folders = checked_folders(jobs, foreign)
    if launcher.get("_target_") == PARALLEL:
        return _in_parallel(jobs, composer.words(overrides), foreign, launcher["n_jobs"], folders)
    if launcher.get("_target_") == CLUSTER:
        from runner.cluster import train_on_cluster

        of_jobs = composer.words(overrides)
        waited = train_on_cluster(jobs, of_jobs, _apart(of_jobs), launcher, composer.config_dir)
        return _summarize(folders) if waited else 0
    with tempfile.TemporaryDirectory() as scratch:  # Hydra's multirun.yaml and empty job folders
        words = [*renamed(overrides), f"hydra.sweep.dir={scratch}", "-m"]
        if composer.config_dir is not None:
            words += ["--config-dir", str(composer.config_dir.resolve())]
        with suppress(SystemExit):  # Hydra has reported that a worker was killed; the folders have the details
            hydra_main(words, partial(_job, jobs=jobs, foreign=foreign))
    return _report(folders)


def checked_folders(jobs: Jobs, foreign: bool) -> list[Path]:
    """Return the jobs' folders, after checking that every unfinished job can be trained.

    Raises:
        ConfigError: the configuration of a job is invalid, or two jobs would share a folder.
    """
    from runner.experiment import Experiment
    from runner.running import run_of

    known = [run_of(job, foreign) for job in jobs]
    folders = [run.folder for run, _, _ in known]
    for folder, count in Counter(folders).items():
        if count > 1:
            raise ConfigError(f"{count} of the {len(jobs)} jobs would share the folder {folder}")
    unfinished = {hash_: config for run, config, hash_ in known if config["force"] or _state(run) != "finished"}
    for config in unfinished.values():
        # Finds missing or damaged data, and parameters that exclude each other.
        Experiment.from_config(config).training()
    return folders


def _in_parallel(
    jobs: Jobs, words: Sequence[Sequence[str]], foreign: bool, n_jobs: Any, folders: Sequence[Path]
) -> int:
    """Run all jobs, `n_jobs` at a time, and return the exit code."""
    if not isinstance(n_jobs, int) or isinstance(n_jobs, bool) or n_jobs == 0:
        given = f"hydra.launcher.n_jobs={show(n_jobs)}"
        raise ConfigError(f"{given}: expected a whole number of at least 1, or -1: one per core")
    try:
        train_side_by_side(jobs, words, _apart(words), foreign, worker_count(n_jobs))
    except UserError as error:
        print(f"run: {error}", file=sys.stderr)
    return _summarize(folders)


def _summarize(folders: Sequence[Path]) -> int:
    """Print the finished runs, report the others, and return the exit code."""
    print()
    print(*run_lines([one for one in map(Found.read, map(Run, folders)) if one.state == "finished"]), sep="\n")
    return _report(folders)


def _apart(words: Sequence[Sequence[str]]) -> list[str]:
    """Return the options that distinguish each job from the others; for a single job, all of its options."""
    common = set.intersection(*map(set, words)) if len(words) > 1 else set()
    return [" ".join(word for word in job if word not in common) for job in words]


def _job(config: DictConfig, jobs: Jobs, foreign: bool) -> None:
    """Run one job for Hydra's launcher. If it fails, its folder records the error and the other jobs continue."""
    number = HydraConfig.get().job.num
    task = list(HydraConfig.get().overrides.task)
    print(f"[{number + 1}/{len(jobs)}] {' '.join(task)}", flush=True)
    try:
        run_one(jobs[number], task, foreign)
    except UserError as error:
        print(f"run: {error}", file=sys.stderr)
    except Exception as error:
        print(f"run: {located(error)} (see run.log in the job's folder)", file=sys.stderr)


def _report(folders: Sequence[Path]) -> int:
    """Print the jobs whose runs are unfinished or damaged, and return the exit code of the multirun."""
    failed: list[tuple[Path, str, str]] = []
    for folder in folders:
        run = Run(folder)
        try:
            state, error = run.state() or "not started", run.status().get("error") or ""
            if state == "finished":
                run.verify_all()
        except UserError as damage:
            state, error = "damaged", str(damage)
        if state != "finished":
            failed.append((folder, state, error))
    if failed:
        print(f"{len(failed)} of {len(folders)} jobs are not finished:", file=sys.stderr)
        for folder, state, error in failed:
            print(f"  {state:12} {folder}  {error}".rstrip(), file=sys.stderr)
        return 1
    return 0


def _state(run: Run) -> str:
    try:
        return run.state() or "not started"
    except UserError:
        return "damaged"


def hydra_main(words: Sequence[str], job: Any = None) -> int:
    """Run Hydra's own entry point, which handles its flags, sweepers and launchers."""
    saved = sys.argv
    sys.argv = ["run train", *words]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(job or (lambda config: None))()
    finally:
        sys.argv = saved
    return 0
