"""The runs behind a published table: list them, train the missing ones, and estimate the cost."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.config.compose import Composer
from runner.config.rules import show
from runner.reporting.formats import duration
from runner.reporting.reproduction import Cell, Plan
from runner.runs import Run
from runner.workers import train_one, train_side_by_side


def key_of(text: str) -> str:
    """Return the name of the option set by an override."""
    return text.partition("=")[0].lstrip("+~")


def jobs_of(plan: Plan, rest: Sequence[str], config_dir: Path | None) -> list[tuple[Cell, list[dict[str, Any]]]]:
    """Return the checked configurations of every cell, one per seed (or per value of another varied option)."""
    composer = Composer("train", config_dir)
    given = {key_of(text) for text in rest}
    base = [text for text in plan.base if key_of(text) not in given]
    found = []
    for cell in plan.cells:
        sweep = [f"prune.sparsities={show(list(cell.sparsities))}", f"prune.granularity={plan.granularity}"]
        sweep += ["prune.splits=[test]", *plan.sweep]
        jobs, _ = composer.jobs([*base, *cell.overrides, *sweep, *rest])
        found.append((cell, jobs))
    return found


def run_of_job(job: dict[str, Any], foreign: bool) -> Run:
    """Return the run folder of a configuration."""
    from runner.running import run_of

    return run_of(job, foreign)[0]


def train_all(jobs: Sequence[dict[str, Any]], rest: Sequence[str], foreign: bool, workers: int) -> list[str]:
    """Train the missing runs, and return one line for each failure."""
    overrides = [[f"dropout={job['dropout']['name']}", *rest] for job in jobs]  # for the command in status.json
    if workers > 1:
        folders = [str(run_of_job(job, foreign).folder) for job in jobs]
        found = train_side_by_side(jobs, overrides, folders, foreign, workers)
    else:
        found = [_train_one(job, words, foreign) for job, words in zip(jobs, overrides, strict=True)]
    return [f"run: {failure}" for failure in found if failure is not None]


def _train_one(job: dict[str, Any], words: Sequence[str], foreign: bool) -> str | None:
    failure = train_one(job, words, foreign)
    if failure is None:
        print(run_of_job(job, foreign).folder, flush=True)
    return failure


def about(jobs: Sequence[dict[str, Any]]) -> str:
    """Return a caption that describes the model, data set, schedule and seeds."""
    job, seeds = jobs[0], sorted({job["seed"] for job in jobs})
    what = f"{job['model']['name']} on {job['data']['name']}, {job['schedule']['name']} schedule"
    return f"{what}, {job['schedule']['length']}, seed {', '.join(map(str, seeds))}"


def machine_of(run: Run) -> str:
    """Return a caption that describes the machine on which a run was trained."""
    status = run.status()
    threads = f"threads: {status['threads']}, {status['precision']}"
    return f"{status['device']}, {threads}, torch {status['versions']['torch']}"


def estimate(plan: Plan, jobs: Sequence[dict[str, Any]], foreign: bool) -> int:
    """Print the number of missing runs and estimates of their time on this machine and their disk space."""
    missing = [job for job in jobs if run_of_job(job, foreign).state() != "finished"]
    print(f"{plan.name}: {len(jobs)} runs, {len(missing)} of them missing")
    seconds, size = 0.0, 0
    timed: dict[str, tuple[float, int]] = {}
    for job in missing:
        kind = repr({**job, "seed": 0, "prune": {}})
        if kind not in timed:
            timed[kind] = _timed(job)
        seconds += timed[kind][0]
        size += timed[kind][1]
    if missing:
        print(f"about {duration(max(1.0, seconds))} one after another, from a few steps timed on this machine just now")
        print(f"about {max(1.0, size / 1e6):.0f} MB of disk")
    return 0


def _timed(job: dict[str, Any]) -> tuple[float, int]:
    """Estimate the time of one run in seconds, including pruning, and its size on disk in bytes."""
    from runner.experiment import Experiment
    from runner.running import settle
    from runner.training.machine import autocast

    parts = Experiment.from_config(settle(job, foreign=True))
    training = parts.training()
    # The last steps are timed, when ramps are complete and masks are drawn in every layer.
    training.skip_to(max(0, training.steps - 5))
    steps = [_seconds(training.one_step) for _ in range(5)][2:]
    examples = parts.data.sizes().get("test", 0)
    parts.model.eval()
    batch = next(iter(parts.data.eval_batches("test")))
    count = len(batch[0]) if isinstance(batch, tuple) else len(batch)
    with autocast(parts.precision, parts.device):
        forward = min(_seconds(lambda: parts.task.evaluate(parts.model, [batch])) for _ in range(2)) / count
    points = len(job["prune"]["sparsities"]) * len(job["prune"]["batch_norm"])
    kept = [*parts.model.state_dict().values(), *(s for d in parts.variant.scores().values() for s in d.values())]
    bytes_left = sum(tensor.numel() * tensor.element_size() for tensor in kept)
    return training.steps * statistics.median(steps) + points * examples * forward, bytes_left


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
