"""run table: gather runs into one table and a figure, mean and standard deviation over seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner import runs
from runner.config.compose import Composer
from runner.errors import ConfigError
from runner.reporting.choice import Choice
from runner.reporting.gather import gather
from runner.reporting.table import make_table
from runner.reporting.writing import markdown, write_table


def table(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command; without folders it gathers all runs under `outputs`."""
    config = Composer("table", config_dir).single(overrides)
    choice = Choice.of(config["table"])
    measured, left_out = gather(_found(folders, config), choice.runs)
    made = make_table(measured, choice)
    paths = write_table(made, _out(config, choice))
    print(markdown(made))
    for line in left_out:
        print(line)
    print(*paths, sep="\n")
    return 0


def _found(folders: Sequence[str], config: dict[str, Any]) -> list[runs.Run]:
    if folders:
        return runs.find_runs(folders)
    outputs = Path(config["outputs"])
    if not any(outputs.rglob(".hydra/config.yaml")):
        raise ConfigError(f"there is no run under {outputs}/ yet; run train -m dropout=none,targeted makes two")
    return runs.find_runs([outputs])


def _out(config: dict[str, Any], choice: Choice) -> Path:
    return Path(config["out"]) if config["out"] else Path(config["outputs"]) / "table" / choice.name
