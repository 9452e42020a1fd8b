"""run reproduce: a published table again: train what is missing, sweep it on the table's own grid, set it beside."""

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.config.compose import Composer
from runner.config.rules import show
from runner.errors import ConfigError
from runner.multirun import checked_folders
from runner.reporting.formats import duration
from runner.reporting.reproduction import PLAN_OPTIONS, Cell, Plan, markdown, rows_of, write
from runner.runs import Run
from runner.workers import train_one, train_side_by_side

_OWN = ("table", "out", "outputs", "setup", "jobs")  # options of this command; all others are run train's


def reproduce(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None, estimate: bool = False) -> int:
    """The command."""
    if folders:
        raise ConfigError(f"{folders[0]!r} is not understood: options are written name=value ({folders[0]}=…)")
    if not any(_key(text) == "table" for text in overrides):
        raise ConfigError("table=… must be given, table=paper2_weight for one; run list table names them")
    own = [text for text in overrides if _key(text).partition(".")[0] in _OWN]
    config = Composer("reproduce", config_dir).single(own)
    for text in own:
        group, _, name = _key(text).partition(".")
        if group == "table" and name and name.partition(".")[0] not in PLAN_OPTIONS:
            raise ConfigError(f"{text}: table.{name} is run table's; run reproduce keeps to the published table's rows")
    if not isinstance(config["jobs"], int) or config["jobs"] < 1:
        raise ConfigError(f"jobs={show(config['jobs'])}: allowed is a whole number from 1 on")
    if config["setup"] not in ("paper", "own"):
        raise ConfigError(f"setup={show(config['setup'])}: allowed is paper, own")
    plan = Plan.of(config["table"])
    if config["setup"] == "own":
        plan = replace(plan, base=())
    rest = [text for text in overrides if text not in own]
    outputs = [text for text in own if _key(text) == "outputs"]  # else the runs' own: debug=smoke has another
    cells = _jobs(plan, [*rest, *outputs], config_dir)
    distinct = list({repr(job): job for _, jobs in cells for job in jobs}.values())
    foreign = config_dir is not None
    checked_folders(distinct, foreign)
    if estimate:
        return _estimate(plan, distinct, foreign)
    failed = _train_all(distinct, rest, foreign, config["jobs"])
    runs = [(cell, [_run_of(job, foreign) for job in jobs]) for cell, jobs in cells]
    finished = [(cell, [run for run in done if run.state() == "finished"]) for cell, done in runs]
    finished = [(cell, done) for cell, done in finished if done]
    if finished:
        rows = rows_of(plan, finished)
        about, machine = _about(distinct), _machine(finished[0][1][0])
        text = markdown(plan, rows, f"{about}; {machine}.\n\n`run reproduce {' '.join(overrides)}`")
        folder = Path(config["out"] or Path(distinct[0]["outputs"]) / "table" / plan.name)
        print(text)
        print(*write(folder, plan, rows, text, about), sep="\n")
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+~")


def _jobs(plan: Plan, rest: Sequence[str], config_dir: Path | None) -> list[tuple[Cell, list[dict[str, Any]]]]:
    """Every cell's checked configurations, one a seed (or other value that the user gave several of)."""
    composer = Composer("train", config_dir)
    given = {_key(text) for text in rest}
    base = [text for text in plan.base if _key(text) not in given]
    found = []
    for cell in plan.cells:
        sweep = [f"prune.sparsities={show(list(cell.sparsities))}", f"prune.granularity={plan.granularity}"]
        sweep += ["prune.splits=[test]", *plan.sweep]
        jobs, _ = composer.jobs([*base, *cell.overrides, *sweep, *rest])
        found.append((cell, jobs))
    return found


def _run_of(job: dict[str, Any], foreign: bool) -> Run:
    from runner.running import run_of

    return run_of(job, foreign)[0]


def _train_all(jobs: Sequence[dict[str, Any]], rest: Sequence[str], foreign: bool, workers: int) -> list[str]:
    overrides = [[f"dropout={job['dropout']['name']}", *rest] for job in jobs]  # as status.json tells it
    if workers > 1:
        folders = [str(_run_of(job, foreign).folder) for job in jobs]
        found = train_side_by_side(jobs, overrides, folders, foreign, workers)
    else:
        found = [_train_one(job, words, foreign) for job, words in zip(jobs, overrides, strict=True)]
    return [f"run: {failure}" for failure in found if failure is not None]


def _train_one(job: dict[str, Any], words: Sequence[str], foreign: bool) -> str | None:
    failure = train_one(job, words, foreign)
    if failure is None:
        print(_run_of(job, foreign).folder, flush=True)
    return failure


def _about(jobs: Sequence[dict[str, Any]]) -> str:
    job, seeds = jobs[0], sorted({job["seed"] for job in jobs})
    what = f"{job['model']['name']} on {job['data']['name']}, {job['schedule']['name']} schedule"
    return f"{what}, {job['schedule']['length']}, seed {', '.join(map(str, seeds))}"


def _machine(run: Run) -> str:
    status = run.status()
    threads = f"threads: {status['threads']}, {status['precision']}"
    return f"{status['device']}, {threads}, torch {status['versions']['torch']}"


def _estimate(plan: Plan, jobs: Sequence[dict[str, Any]], foreign: bool) -> int:
    """Print how many trainings are missing, about how long they take here, and the disk that they need."""
    missing = [job for job in jobs if _run_of(job, foreign).state() != "finished"]
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
    """Seconds that one run takes, pruning included, and bytes that it leaves."""
    from runner.experiment import Experiment
    from runner.running import settle
    from runner.training.machine import autocast

    parts = Experiment.from_config(settle(job, foreign=True))
    training = parts.training()
    # The last steps: ramps have risen by then, and masks are drawn in every layer.
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
