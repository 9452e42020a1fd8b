"""The initial content of status.json: the run's origin and the machine that it runs on."""

import platform
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from runner import __version__, runs
from runner.config.build import is_builder, target
from runner.config.sources import own_sources
from runner.experiment import Experiment
from runner.models.layers import parameter_count
from runner.stored import data_inventory
from runner.tasks.metrics import headline_of_task, of_task, stored
from runner.training.machine import describe

if TYPE_CHECKING:
    from runner.running import Identity


def started(
    experiment: Experiment, identity: "Identity", words: Sequence[str], status: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of status.json for a run that starts or resumes."""
    task, builder = experiment.task, target(experiment.config, "model")
    return {
        "state": "running",
        "trained": status.get("trained", False),
        "started": status.get("started") or runs.now(),
        "resumed": runs.now() if status else None,
        "finished": None,
        "error": None,
        "format": identity.format,
        "hash": identity.hash,
        "hash_of_format_1": identity.of_format_1,
        "command": " ".join(["run", *words]),
        "headline": {"metric": task.headline, "higher_is_better": headline_of_task(task).higher_is_better},
        "metrics": stored(of_task(task).values()),
        "signatures": getattr(task, "signatures", {}),  # named definitions of how metrics were computed
        "parameters": parameter_count(experiment.model),
        "examples": experiment.data.sizes(),
        "data": data_inventory(experiment.config),
        "sources": own_sources(experiment.config),
        "device": describe(experiment.device),
        "threads": torch.get_num_threads(),
        "processes": experiment.processes.count,
        "precision": experiment.precision,
        "python": platform.python_version(),
        "versions": {
            "runner": __version__,
            **{name: version(name) for name in ("torch", "torchvision", "numpy", "hydra-core")},
            **(builder.versions() if is_builder(builder) else {}),  # type: ignore[attr-defined]
        },
        "git": _commit(),
    }


def _commit() -> str | None:
    """Return the git commit of this code, with a + if there are uncommitted changes, or None outside a checkout."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None
    with suppress(OSError, subprocess.SubprocessError):
        ask = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return None
