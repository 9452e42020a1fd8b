"""run list: what there is to choose from, and what ran."""

from collections.abc import Sequence
from pathlib import Path

from runner import runs
from runner.config.compose import options
from runner.config.near import near
from runner.config.paths import CONF
from runner.errors import ConfigError
from runner.reporting.listing import run_lines

# Shown in this order, before any others.
_FIRST = ("model", "dropout", "regularizer", "data", "task", "schedule", "prune", "granularity", "criterion")


def list_(words: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: groups and their files, one line each; or the runs below some folders (default outputs)."""
    if overrides:
        raise ConfigError(f"{overrides[0]}: run list has no options")
    if words and words[0] == "runs":
        return _runs(words[1:])
    folders = [CONF] + ([config_dir] if config_dir else [])
    known = groups(folders)
    for group in list(words) or known:
        found = {name: line for folder in folders for name, line in options(group, folder).items()}
        if not found or group not in known:
            hint = near(group, ["runs", *known])
            raise ConfigError(f"run list {group}: allowed is runs, {', '.join(known)}{hint}")
        print(f"{group}=")
        width = max(map(len, found))
        for name, line in found.items():
            print(f"  {name:{width}}  {line}".rstrip())
    return 0


def groups(folders: Sequence[Path] = (CONF,)) -> list[str]:
    """The groups of choices that some folders of configurations have; Hydra's own are its own matter."""
    found = {path.name for folder in folders for path in folder.iterdir() if path.is_dir() and any(path.glob("*.yaml"))}
    first = [group for group in _FIRST if group in found]
    return [*first, *sorted(found - {*first, "hydra"})]


def _runs(folders: Sequence[str]) -> int:
    """A line a run below the folders, by default of all under outputs but smoke runs."""
    outputs = Path("outputs")
    if not folders and not outputs.is_dir():
        print("no runs yet: there is no folder outputs here")
        return 0
    found, smoke = runs.find_runs(folders or [outputs]), 0
    if not folders:
        found, smoke = runs.without_smoke(found, outputs)
    for line in run_lines(found):
        print(line)
    if smoke:
        print(f"and {smoke} of debug=smoke: run list runs {outputs / runs.SMOKE}")
    return 0
