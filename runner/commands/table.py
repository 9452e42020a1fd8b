"""run table [FOLDER…] [options]: gather runs into one table and a figure, mean ± deviation over seeds

  run table                                      all finished runs under outputs/ except run ticket's and smoke runs
  run table outputs/train table.granularity=unit table.batch_norm=recalibrated
  run table outputs/train 'table.runs={data: digits, dropout: [none, targeted]}'
  run table table.baseline=none                  also the differences from a column, paired by seed
  run table table=cifar10                        next to the paper's numbers; run list table names the tables

Rows are sparsities, columns are the options that distinguish the runs, and values are the mean and standard deviation
over seeds. Rows below a column's floor (its dropout's γ) repeat the network pruned at the floor, as in the paper. The
row "unpruned" shows the whole network.

Writes CSV, Markdown, LaTeX, the figure and learning curves (PNG and SVG) under outputs/table.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner import runs
from runner.config.compose import Composer
from runner.config.paths import CONF
from runner.errors import ConfigError
from runner.reporting.choice import Choice
from runner.reporting.gather import gather
from runner.reporting.table import make_table
from runner.reporting.writing import markdown, write_table


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Write the table. Without folders, it covers the finished runs under `outputs`, except smoke runs."""
    config = Composer("table", config_dir).single(overrides)
    choice = Choice.of(config["table"], [CONF, config_dir] if config_dir else [CONF])
    found, notes = _found(folders, config)
    measured, left_out = gather(found, choice.runs)
    made = make_table(measured, choice)
    paths = write_table(made, _out(config, choice))
    print(markdown(made))
    for line in [*left_out, *notes]:
        print(line)
    print(*paths, sep="\n")
    return 0


def _found(folders: Sequence[str], config: dict[str, Any]) -> tuple[list[runs.Run], list[str]]:
    """Return the runs in the folders (by default in `outputs`, without smoke runs) and notes on omitted runs."""
    if folders:
        return runs.find_runs(folders), []
    outputs = Path(config["outputs"])
    there = any(outputs.rglob(".hydra/config.yaml"))
    found, smoke = runs.without_smoke(runs.find_runs([outputs]) if there else [], outputs)
    notes = [f"left out: {smoke} of debug=smoke; run table outputs={outputs / runs.SMOKE} shows them"] if smoke else []
    if not found:
        makes = "run train -m dropout=none,targeted makes two"
        raise ConfigError("; ".join([f"there is no run under {outputs}/ yet", *notes, makes]))
    return found, notes


def _out(config: dict[str, Any], choice: Choice) -> Path:
    return Path(config["out"]) if config["out"] else Path(config["outputs"]) / "table" / choice.name
