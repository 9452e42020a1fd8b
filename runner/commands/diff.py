"""run diff A B: how two runs differ in options, machine and results

  run diff outputs/train/digits-resnet32-none-1a2b3c4d/seed0 outputs/train/digits-resnet32-targeted-5e6f7a8b/seed0

Prints three tables: options, machine, and results at the sparsities that both runs measured.
"""

from collections.abc import Sequence
from pathlib import Path

from runner import runs
from runner.errors import ConfigError
from runner.reporting.difference import difference
from runner.reporting.finding import Found


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Print the differences between the runs."""
    if len(folders) != 2 or overrides:
        raise ConfigError("run diff needs two run folders and has no options: run diff outputs/train/a outputs/train/b")
    found = [runs.find_runs([folder]) for folder in folders]
    for folder, one in zip(folders, found, strict=True):
        if len(one) > 1:
            raise ConfigError(f"{folder} holds {len(one)} runs; name one of them, as {one[0].folder}")
    a, b = (Found.read(one[0]) for one in found)
    for run in (a, b):
        if run.state == "damaged":
            raise ConfigError(f"{run.run.folder}: {run.error}")
    print(f"A: {a.run.folder}\nB: {b.run.folder}\n")
    print(*difference(a, b), sep="\n")
    return 0
