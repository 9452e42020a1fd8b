"""The finished runs for an analysis and their configurations, grouped by everything except the seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.reporting.columns import in_columns, seed_groups
from runner.reporting.gather import Measured
from runner.runs import Run
from runner.stored import stored_config


@dataclass(frozen=True)
class Sources:
    """Finished runs, one per seed.

    Attributes:
        configs: the checked configuration of each run, with the requested device.
        groups: groups of runs that differ only in their seed.
        notes: notes about runs that were left out.
    """

    configs: dict[Run, dict[str, Any]]
    groups: list[list[Measured]]
    notes: list[str]

    @classmethod
    def of(cls, found: Sequence[Run], options: dict[str, Any], config_dir: Path | None) -> "Sources":
        """Read and check the runs.

        Args:
            options: options of the command; `device` and `data` override the stored configurations.

        Raises:
            ConfigError: a run is not finished, or its data is missing.
            ForeignRun: a run has classes that are not trusted.
        """
        configs = {run: stored_config(run, options, config_dir) for run in found}
        return cls(configs, *seed_groups(configs))

    def columns(self) -> list[tuple[str, Measured]]:
        """Return every run with the name of its group. Runs without dropout come first."""
        return in_columns(self.groups)

    def names(self, *groups: str) -> str:
        """Return the runs' choices in configuration groups in a form for folder names, such as `cifar10-mlp`."""
        configs = [self.configs[one.run] for _, one in self.columns()]
        return "-".join(
            name for group in groups for name in dict.fromkeys(str(config[group]["name"]) for config in configs)
        )
