"""run reproduce table=NAME [options]: train the runs of a published table and compare the results, cell by cell

  run reproduce table=paper2_weight --estimate          how many runs, how long on this machine, how much disk
  run reproduce table=paper2_weight data.root=data      as in the paper: 100,000 steps per run, for a GPU
  run reproduce table=paper2_weight setup=own data=digits model=resnet32_he seed=0,1,2 jobs=2

Trains the missing runs (tables share them), sweeps each over the table's own sparsities, and writes CSV and Markdown
under outputs/table: our values, the published ones and their difference. Doubtful published cells are marked.
Accepts all options of run train. run list table names the tables.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runner import reproducing
from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.multirun import checked_folders
from runner.reporting.reproduction import PLAN_OPTIONS, Plan, markdown, rows_of, write
from runner.reproducing import about, jobs_of, key_of, machine_of, run_of_job, train_all
from runner.rules import one_of, whole

_OWN = ("table", "out", "outputs", "setup", "jobs")  # options of this command; all others are run train's


def main(
    folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None, *, estimate: bool = False
) -> int:
    """Train the missing runs and write the table. With `estimate`, only print what this would cost."""
    if not any(key_of(text) == "table" for text in overrides):
        raise ConfigError("table=NAME is required, for example table=paper2_weight; see run list table")
    own = [text for text in overrides if key_of(text).partition(".")[0] in _OWN]
    config = Composer("reproduce", config_dir).single(own)
    for text in own:
        group, _, name = key_of(text).partition(".")
        if group == "table" and name and name.partition(".")[0] not in PLAN_OPTIONS:
            raise ConfigError(
                f"{text}: table.{name} is an option of run table; run reproduce keeps the published table's rows"
            )
    check_each(config, {"jobs": whole(1), "setup": one_of("paper", "own")})
    plan = Plan.of(config["table"])
    if config["setup"] == "own":
        plan = replace(plan, base=())
    rest = [text for text in overrides if text not in own]
    outputs = [text for text in own if key_of(text) == "outputs"]  # by default the runs' own, which debug=smoke changes
    cells = jobs_of(plan, [*rest, *outputs], config_dir)
    distinct = list({repr(job): job for _, jobs in cells for job in jobs}.values())
    foreign = config_dir is not None
    checked_folders(distinct, foreign)
    if estimate:
        return reproducing.estimate(plan, distinct, foreign)
    failed = train_all(distinct, rest, foreign, config["jobs"])
    runs = [(cell, [run_of_job(job, foreign) for job in jobs]) for cell, jobs in cells]
    finished = [(cell, [run for run in done if run.state() == "finished"]) for cell, done in runs]
    finished = [(cell, done) for cell, done in finished if done]
    if finished:
        rows = rows_of(plan, finished)
        caption, machine = about(distinct), machine_of(finished[0][1][0])
        text = markdown(plan, rows, f"{caption}; {machine}.\n\n`run reproduce {' '.join(overrides)}`")
        folder = Path(config["out"] or Path(distinct[0]["outputs"]) / "table" / plan.name)
        print(text)
        print(*write(folder, plan, rows, text, caption), sep="\n")
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0
