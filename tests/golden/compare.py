"""Run the same small experiments at two commits on this machine and compare the results bit by bit.

    python tests/golden/compare.py BASE            # BASE against the working tree
    python tests/golden/compare.py BASE HEAD       # two commits

The numbers of a training depend on the processor, so no results are stored: both sides are computed here, in float32
with one thread. The names of the run folders, the weights, the variant's own scores and the rows of `metrics.csv`
(except timing) and `pruning.csv` are compared. Columns and rows that exist only on the newer side are listed, but are
not counted as differences. Exits with 1 if anything differs. Takes about five minutes on two cores.

An expected difference: up to bd7e5a2 the digits in a folder's name were a hash of every option, since then only of
those that differ from the released defaults. Across that commit, `--other-hashes` identifies folders by name and first
loss.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("debug=smoke", "precision=float32", "schedule.length=6it", "outputs=outputs")
NET = ("model=resnet32_he", "model.blocks=1", *SMALL)
WITHOUT_PENALTY = "none,targeted,ramping,targeted_unit,ramping_unit,weight_dropout,unit_dropout,random_targeted"
WITH_STATE = "hard_concrete,variational,smallify,rigl,gradual_magnitude,delayed,xtreme,targeted_ard,tail"
TEXT = tuple(f"data.{split}=[source.txt,target.txt]" for split in ("train", "validation", "test"))

# Lists of commands, each run one after the other in a folder of its own.
EXPERIMENTS: dict[str, list[tuple[str, ...]]] = {
    "images": [("train", "-m", *NET, f"dropout={WITHOUT_PENALTY}", "seed=0,1")],
    "state": [("train", "-m", *NET, f"dropout={WITH_STATE}")],
    "models": [
        ("train", "-m", *SMALL, "model=lenet,mlp", "dropout=none,targeted,targeted_unit"),
        ("train", "-m", *SMALL, "model=wide_resnet_narrow,resnet32", "model.width=0.5", "dropout=ramping_unit"),
    ],
    "regularizer": [("train", *NET, "regularizer=l1", "dropout=none", "schedule=adam", "prune.scope=global")],
    "translation": [
        ("train", "-m", *SMALL, "model=transformer", "data=parallel", *TEXT, "dropout=none,targeted,targeted_unit",
         "schedule.batch_size=64", "prune.sparsities=[0,0.5]"),
    ],
    "autoencoder": [("train", "-m", *SMALL, "model=autoencoder", "dropout=none,tail")],
    "interrupted": [("train", *NET, "dropout=ramping", "schedule.length=40it", "prune.floor=0")],
    "other rules": [
        ("train", *NET, "dropout=targeted"),
        ("prune", "outputs/train", "prune.sparsities=[0.3,0.6]", "prune.scores=random"),
        ("ticket", "outputs/train", "outputs=outputs", "sparsity=0.5"),
    ],
}  # fmt: skip
TIMING = ("examples_per_second", "seconds")


def run_all(code: Path, work: Path) -> None:
    """Run every experiment with the code of one checkout."""
    for number in range(40):
        for side in ("source", "target"):
            with (work / f"{side}.txt").open("a") as file:
                file.write(f"{side} {number} {'ab'[number % 2] * (number % 7)}\n")
    for name, commands in EXPERIMENTS.items():
        folder = work / name
        folder.mkdir()
        for text in ("source.txt", "target.txt"):
            (folder / text).write_text((work / text).read_text())
        for words in commands:
            if name == "interrupted":
                interrupt(code, folder, words)
            start(code, folder, words, check=True)
        print(f"  {work.name}: {name}", flush=True)


def start(code: Path, folder: Path, words: tuple[str, ...], check: bool) -> subprocess.Popen[str]:
    """Start one command; with `check`, wait for it and stop at its failure."""
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (folder / "log.txt").open("a") as log:
        command = [sys.executable, "-m", "runner", *words]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, text=True)
    if check and process.wait() != 0:
        sys.exit(f"{folder}: run {' '.join(words)} failed:\n{(folder / 'log.txt').read_text()[-2000:]}")
    return process


def interrupt(code: Path, folder: Path, words: tuple[str, ...]) -> None:
    """Start a training and kill it as soon as there is a checkpoint."""
    process = start(code, folder, words, check=False)
    while process.poll() is None and not list(folder.rglob("checkpoint.pt")):
        time.sleep(0.01)
    process.kill()
    process.wait()


def differences(old: Path, new: Path, hashes: bool) -> list[str]:
    """Return the differences between the run folders of two sides."""
    found = []
    for name in EXPERIMENTS:
        sides = [run_folders(side / name, hashes) for side in (old, new)]
        for folder in sorted(sides[0].keys() ^ sides[1].keys()):
            found.append(f"{name}: {folder} is only in the {'older' if folder in sides[0] else 'newer'} side")
        for folder in sorted(sides[0].keys() & sides[1].keys()):
            found += [f"{name}: {folder}: {line}" for line in compare_runs(sides[0][folder], sides[1][folder])]
        if not sides[0]:
            found.append(f"{name}: no run was made")
    return found


def run_folders(work: Path, hashes: bool) -> dict[str, Path]:
    """Return the run folders below a folder by name, with or without the digits of their hashes."""
    found: dict[str, Path] = {}
    for status in sorted(work.rglob("status.json")):
        name = str(status.parent.relative_to(work))
        if not hashes:
            name = f"{re.sub('-[0-9a-f]{8}/', '/', name)} {first_loss(status.parent)}"
        if name in found:
            sys.exit(f"{status.parent} and {found[name]} can't be told apart without their hashes")
        found[name] = status.parent
    return found


def first_loss(folder: Path) -> str:
    """Return the first loss of the learning curve, which distinguishes runs whose names differ only in the hash."""
    with (folder / "metrics.csv").open() as lines:
        return next(csv.DictReader(lines))["train_loss"]


def compare_runs(old: Path, new: Path) -> list[str]:
    """Return the differences between two run folders."""
    found = []
    for file in ("weights.safetensors", "scores.safetensors"):
        if (old / file).read_bytes() != (new / file).read_bytes():
            found.append(f"{file} differs")
    keys = {"metrics.csv": ["step"], "pruning.csv": list(header(old / "pruning.csv")[:7])}
    for file, key in keys.items():
        before, after = (rows(side / file, key) for side in (old, new))
        if missing := before.keys() - after.keys():
            found.append(f"{file} lacks {len(missing)} rows: {sorted(missing)[0]}")
        for row in before.keys() & after.keys():
            columns = [c for c in before[row] if c not in TIMING and before[row][c] != after[row].get(c)]
            found += [f"{file} {row}: {c} is {after[row].get(c)}, was {before[row][c]}" for c in columns]
    return found


def header(file: Path) -> list[str]:
    with file.open() as lines:
        return next(csv.reader(lines))


def rows(file: Path, key: list[str]) -> dict[tuple[str, ...], dict[str, str]]:
    with file.open() as lines:
        return {tuple(row[column] for column in key): row for row in csv.DictReader(lines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("head", nargs="?", help="the newer commit; default: the working tree")
    parser.add_argument("--other-hashes", action="store_true", help="run folders may have other digits in their names")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        trees = {"old": asked.base, "new": asked.head}
        codes, works = [], []
        try:
            for side, commit in trees.items():
                code = Path(scratch) / f"code-{side}" if commit else ROOT
                if commit:
                    subprocess.run(["git", "-C", ROOT, "worktree", "add", "-q", "--detach", code, commit], check=True)
                works.append(Path(scratch) / side)
                works[-1].mkdir()
                codes.append(code)
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(run_all, codes, works))
            found = differences(*works, not asked.other_hashes)
        finally:
            for code in codes:
                if code != ROOT:
                    subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", code], check=False)
    print(*found, sep="\n")
    print("identical" if not found else f"{len(found)} differences")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
