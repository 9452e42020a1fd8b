"""run train: one run from its configuration to its pruning table."""

from collections.abc import Mapping, Sequence
from typing import Any

from runner.following import follow
from runner.reporting.summary import pruning_summary
from runner.running import execute
from runner.training.distributed import Several, joined


def train(config: Mapping[str, Any], overrides: Sequence[str] = (), foreign: bool = False) -> None:
    """Train, prune and report one run; a finished one is only reported, an interrupted one goes on."""
    with joined(config) as processes:
        if isinstance(processes, Several) and not processes.first:
            follow(config, processes, foreign)
            return
        run, worked = execute(config, overrides, foreign, processes=processes)
    print(pruning_summary(run))
    if not worked:
        print("finished before, nothing was trained; force=true trains again")
    print(run.folder)
