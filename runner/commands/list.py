"""run list [GROUP]: list available models, dropouts, data, …; run list runs: list existing runs

  run list            models, dropouts, data, schedules, experiments, tables
  run list dropout    one group
  run list runs       the runs under outputs/: state, what distinguishes them, headline results, date and duration
  run list runs outputs/train dropout=targeted,none state=finished sort=accuracy@0.9
  run list runs dropout.alpha=0.5 format=json

Options of run list runs
  NAME=VALUE          only runs with this value of an option (dotted name) or choice of a group; a,b means either
  state=finished|running|interrupted|failed|damaged
  sort=METRIC@SPARSITY    best first, over all granularities and treatments of BatchNorm
  sort=folder|state|started|seconds
  format=text|json|csv
"""

from collections.abc import Sequence
from pathlib import Path

from runner.config.compose import options
from runner.config.near import near
from runner.config.paths import CONF, groups
from runner.errors import ConfigError
from runner.reporting.run_list import run_list


def main(words: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """List groups and their choices, or the runs below the given folders."""
    if words and words[0] == "runs":
        for line in run_list(words[1:], overrides):
            print(line)
        return 0
    if overrides:
        raise ConfigError(f"{overrides[0]}: run list has no options; run list runs has")
    folders = [CONF] + ([config_dir] if config_dir else [])
    known = groups(folders)
    for group in list(words) or known:
        found = {name: line for folder in folders for name, line in options(group, folder).items()}
        if not found or group not in known:
            hint = near(group, ["runs", *known])
            raise ConfigError(f"run list {group}: expected runs, {', '.join(known)}{hint}")
        print(f"{group}=")
        width = max(map(len, found))
        for name, line in found.items():
            print(f"  {name:{width}}  {line}".rstrip())
    return 0
