"""run train -m … hydra/launcher=slurm: submit the missing runs as a Slurm array job, using submitit.

Each job trains one run, exactly like `run train`. When its time is almost over, Slurm sends a signal, submitit requeues
the job, and the requeued job resumes from the last checkpoint. A lock in the run folder ensures that a run submitted
twice is trained only once; this requires a shared file system whose locks work across machines.
"""

from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import ConfigError, first_line
from runner.extras import need
from runner.rules import above, either, is_mapping, is_path, is_word, list_of, one_of, whole
from runner.workers import Job, failure_of, train_one

if TYPE_CHECKING:
    import submitit

OPTION = "hydra/launcher=slurm"
_POLL = 10.0  # seconds between polls of the jobs
_SLURM = ("partition", "qos", "account", "constraint", "signal_delay_s", "array_parallelism", "additional_parameters")
_GENERAL = ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb")
_RULES = {
    "cluster": one_of("slurm", "local"),
    "folder": either(None, is_path),
    "timeout_min": whole(1),
    "max_num_timeout": whole(0),
    "cpus_per_task": either(None, whole(1)),
    "gpus_per_node": either(None, whole(1)),
    "mem_gb": either(None, above(0)),
    "signal_delay_s": whole(1),
    "array_parallelism": whole(1),
    "additional_parameters": is_mapping,
    "setup": either(None, list_of(lambda value: None if isinstance(value, str) else "shell commands")),
    "wait": lambda value: None if isinstance(value, bool) else "true or false",
    **dict.fromkeys(("partition", "qos", "account", "constraint"), either(None, is_word)),
}


@dataclass(frozen=True)
class Work:
    """The function that a job of the array executes, on another machine.

    Args:
        here: the command's working directory, to which relative paths refer.
        config_dir: the folder of the user's own configurations and classes.
    """

    here: Path
    config_dir: Path | None

    def __call__(self, job: Job, words: Sequence[str]) -> str | None:
        """Train one run. If it fails, return a line that describes the error."""
        with chdir(self.here):
            if self.config_dir is not None:
                Composer("train", self.config_dir)  # makes its classes known
            return train_one(job, words, self.config_dir is not None)

    def checkpoint(self, job: Job, words: Sequence[str]) -> "submitit.helpers.DelayedSubmission":
        """Return the work of a requeued job. It is the same work, because training resumes from its checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, job, words)


def train_on_cluster(
    jobs: Sequence[Job],
    words: Sequence[Sequence[str]],
    labels: Sequence[str],
    options: Mapping[str, Any],
    config_dir: Path | None,
) -> bool:
    """Submit the missing runs and, unless `wait=false`, wait for them to end.

    Args:
        words: the options on the command line, for each job.
        labels: the label of each job in the output.
        options: the options in conf/hydra/launcher/slurm.yaml.

    Returns:
        False if the jobs have only been submitted (`wait=false`), else True.

    Raises:
        ConfigError: an option is invalid, submitit is not installed, this machine has no Slurm, or sbatch rejects the
            job.
    """
    check_each(options, _RULES, "hydra.launcher.")
    need(OPTION, "submitit", "slurm")
    missing = _missing(jobs, words, config_dir is not None)
    print(f"{len(missing)} of {len(jobs)} runs are missing", flush=True)
    if not missing:
        return True
    folder = Path(options["folder"] or Path(jobs[0]["outputs"]) / "slurm").absolute()
    work = Work(Path.cwd(), config_dir.resolve() if config_dir else None)
    submitted = submit(work, [(jobs[index], words[index]) for index in missing], options, folder)
    number = submitted[0].job_id.partition("_")[0]
    print(f"submitted as job {number}; scripts and logs: {folder}", flush=True)
    if not options["wait"]:
        print("once the jobs have ended, repeat the command to see what is missing")
        return False
    _wait(dict(zip(submitted, [labels[index] for index in missing], strict=True)))
    return True


def _missing(jobs: Sequence[Job], words: Sequence[Sequence[str]], foreign: bool) -> list[int]:
    """Return the indices of the jobs to submit, i.e. those that are neither complete nor being trained."""
    from runner.running import is_complete, run_of

    missing = []
    for index, job in enumerate(jobs):
        run, config, _ = run_of(job, foreign)
        if not failure_of(run.status) and is_complete(run, config):
            train_one(job, words[index], foreign)  # stores a new note, if there is one
        elif not run.in_use():
            missing.append(index)
    return missing


def submit(
    work: Work, calls: Sequence[tuple[Job, Sequence[str]]], options: Mapping[str, Any], folder: Path
) -> "list[submitit.Job[str | None]]":
    """Submit calls of `work` as one array job.

    Args:
        folder: the folder for scripts and logs, with one subfolder per job.

    Raises:
        ConfigError: this machine has no Slurm, or sbatch rejects the job.
    """
    import submitit

    times = options["max_num_timeout"]
    try:
        executor = submitit.AutoExecutor(
            folder / "%j", cluster=options["cluster"], slurm_max_num_timeout=times, local_max_num_timeout=times
        )
    except RuntimeError:
        raise ConfigError(
            f"{OPTION} needs Slurm's commands srun and sbatch on this machine; hydra.launcher.cluster=local tries it "
            "without"
        ) from None
    parameters = {name: options[name] for name in _GENERAL} | {f"slurm_{name}": options[name] for name in _SLURM}
    setup = {f"{options['cluster']}_setup": options["setup"]}
    executor.update_parameters(name="run", **parameters, **setup)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return executor.map_array(work, *map(list, zip(*calls, strict=True)))
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        raise ConfigError(f"{OPTION}: sbatch failed: {first_line(error)}") from None


def _wait(labels: "Mapping[submitit.Job[str | None], str]") -> None:
    """Print a line as each job ends. Ctrl-C stops the waiting but not the jobs."""
    import submitit

    for done, job in enumerate(submitit.helpers.as_completed(list(labels), poll_frequency=_POLL), 1):
        lost = job.exception()  # killed, cancelled, or requeued too often
        failed = lost is not None or job.result() is not None
        print(f"[{done}/{len(labels)}] {'failed' if failed else 'finished':8}  {labels[job]}", flush=True)
