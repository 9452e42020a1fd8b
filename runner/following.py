"""Training in the processes other than the first: they take part in every step, but write no files."""

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
    """Take part in the training that the first process leads in `runner.running.execute`.

    Raises:
        UserError: this or another process has failed. The message is empty if the first process reports the error.
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
    except UserError as error:  # the first process raises the same error
        raise Elsewhere from error
    processes.leave()
