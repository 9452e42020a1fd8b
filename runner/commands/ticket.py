"""run ticket FOLDER… [options]: retrain pruned networks: are they winning tickets, and what do they save?

  run train -m dropout=none,targeted seed=0,1,2
  run ticket outputs/train/digits-resnet32-* sparsity=0.9 iterations=5 finetune=10ep
  run ticket outputs/train/digits-resnet32-* rewind=2ep
  run table outputs/train table=tickets table.sparsities=[0,0.9]

Takes the mask of each finished run, resets the weights and trains them with the mask, with all else as in that run:
ticket (the mask, rewound weights), fresh (the mask, other initial weights), random (a random mask of the same sparsity,
rewound weights). They are compared with the run itself, dense and pruned once. The retrained networks are ordinary runs
under outputs/train; finished ones are not trained again, and run ticket does not take them as input.
Writes CSV and Markdown under outputs/ticket: the metric of each network, and the epochs and seconds spent on training
it, alone and including all training that had to come before.
"""

from collections.abc import Sequence
from pathlib import Path

from runner import runs
from runner.analyses.output import show
from runner.analyses.tickets.study import study
from runner.config.choices import names
from runner.config.compose import Composer
from runner.config.rules import RULES, check_each
from runner.rules import above, between, either, list_of, one_of, whole

_LENGTH = RULES["schedule.length"]
_RULES = {
    "sparsity": between(0, 1),
    "granularity": one_of("auto", *names("granularity")),
    "scores": one_of(*names("criterion")),
    "rewind": either("0ep", _LENGTH),
    "kinds": list_of(one_of("ticket", "fresh", "random"), low=0),
    "iterations": whole(1),
    "finetune": either(None, _LENGTH),
    "finetune_rate": above(0),
    "length": either(None, _LENGTH),
    "jobs": whole(1),
}


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Train the networks that are missing for the given runs, and print a table of metrics and costs."""
    options = Composer("ticket", config_dir).single(overrides)
    check_each(options, _RULES)
    show(*study(runs.find_runs(folders), options, overrides, config_dir))
    return 0
