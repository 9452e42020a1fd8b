"""run ticket: is the network that pruning leaves a winning ticket, and how much training does it save?"""

from collections.abc import Sequence
from pathlib import Path

from runner import runs
from runner.analyses.output import show
from runner.analyses.tickets.study import study
from runner.config.choices import names
from runner.config.compose import Composer
from runner.config.rules import RULES, check_each
from runner.errors import ConfigError
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


def ticket(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: the missing trainings of every run, and a table of what all of them reach and cost."""
    if not folders:
        raise ConfigError("run ticket needs a run folder, or several: run ticket outputs/train/… sparsity=0.9")
    options = Composer("ticket", config_dir).single(overrides)
    check_each(options, _RULES)
    show(*study(runs.find_runs(folders), options, overrides, config_dir))
    return 0
