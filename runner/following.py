"""What a process does in a training that another one leads: the steps, and no file."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from runner.errors import UserError
from runner.experiment import Experiment
from runner.running import prepared, settle
from runner.training import checkpoint
from runner.training.callbacks import FiniteLoss
from runner.training.distributed import Elsewhere, Lost, Several
from runner.training.loop import Training


def follow(
    config: Mapping[str, Any],
    processes: Several,
    foreign: bool = False,
    training_of: Callable[[Experiment], Training] = Experiment.training,
) -> None:
    """Take part in what the first process does in `runner.running.execute`, until its training ends.

    Raises:
        UserError: this process or another has failed; without a message where the first one tells it.
    """
    precision = processes.heard()
    if precision is None:
        return
    own = {**config, "device": str(processes.device), "precision": precision}
    experiment = processes.together(lambda: prepared(settle(own, foreign), processes))
    state = processes.heard()
    if state is None:
        return
    threads, content, path = state
    if threads:
        torch.set_num_threads(threads)
    try:
        training = training_of(experiment)
        if content is not None:
            training.resume(checkpoint.parse(content, path, experiment.device), path)
        training.fit([FiniteLoss()])
    except Lost:
        raise
    except UserError as error:  # the first process finds the same
        raise Elsewhere from error
    processes.leave()
