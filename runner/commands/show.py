"""run show FOLDER…: describe a run, its results and how to continue

  run show outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0

Prints the run's command, machine and versions, its results or last epoch, and commands to continue with.
"""

from collections.abc import Sequence
from pathlib import Path

from runner import runs
from runner.errors import ConfigError
from runner.reporting.description import description
from runner.reporting.finding import Found


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Describe each run folder."""
    for text in overrides:
        raise ConfigError(f"{text}: run show has no options")
    print("\n\n".join("\n".join(description(Found.read(run))) for run in runs.find_runs(folders)))
    return 0
