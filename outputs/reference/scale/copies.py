"""Many run folders out of a few: copies with other seeds and learning rates, each under its own name and hash.

    python outputs/reference/scale/copies.py SOURCE OUT COUNT [SEEDS]

SOURCE has some finished runs. Every copy is a healthy run folder of format 2: its configuration, hash, place and
checksums agree. Its numbers are those of the run that it was copied from.
"""

import json
import shutil
import sys
from pathlib import Path

from runner.config.identity import identity
from runner.runs import Run, default_folder, find_runs


def copy(run: Run, number: int, seeds: int, out: Path) -> Path:
    """The run as its `number`th copy: so many seeds for each learning rate."""
    config = {**run.config(), "seed": number % seeds, "outputs": str(out)}
    config["schedule"] = {**config["schedule"], "learning_rate": round(0.05 + 0.001 * (number // seeds), 6)}
    hash_ = identity(config)
    copied = Run(default_folder(config, hash_))
    shutil.copytree(run.folder, copied.folder)
    copied.write_status(hash=hash_, hash_of_format_1=None)
    copied.unseal(copied.config_file)
    copied.write_config(config, [])
    copied.seal(copied.config_file)
    return copied.folder


def main() -> None:
    source, out, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    seeds = int(sys.argv[4]) if len(sys.argv) > 4 else 10
    sources = find_runs([source])
    folders = {copy(sources[i % len(sources)], i // len(sources), seeds, out) for i in range(count)}
    print(json.dumps({"copies": len(folders), "columns": len({folder.parent for folder in folders})}))


if __name__ == "__main__":
    main()
