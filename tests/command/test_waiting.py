"""How OpenMP's threads wait, which must be decided before torch is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
TORCH = f"""
import os, sys
print(*(f"{{name}}={{os.environ.get(name)}}" for name in {NAMES}))
sys.stdout.flush()
os._exit(0)
"""


def seen_by_torch(folder: Path, **environment: str) -> list[str]:
    """Return the variables as they are when a command imports torch."""
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(TORCH)
    env = {name: value for name, value in os.environ.items() if name not in NAMES}
    env |= {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), **environment}
    command = [sys.executable, "-m", "runner", "prune", "."]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout.split()


def test_threads_are_told_not_to_spin_before_torch_is_imported(tmp_path):
    assert seen_by_torch(tmp_path) == ["OMP_WAIT_POLICY=PASSIVE", "GOMP_SPINCOUNT=None", "KMP_BLOCKTIME=None"]


@pytest.mark.parametrize("name", NAMES)
def test_unless_the_user_has_said_how(tmp_path, name):
    expected = [f"{other}={'100' if other == name else None}" for other in NAMES]
    assert seen_by_torch(tmp_path, **{name: "100"}) == expected
