"""run bench: measure this machine, two things in turn."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from runner import runs
from runner.benchmarks import load
from runner.benchmarks.images import CLASSES, random_split
from runner.benchmarks.intervals import FEWEST
from runner.benchmarks.kit import Kit
from runner.benchmarks.report import COLUMNS, csv_row, table
from runner.benchmarks.rows import ROWS
from runner.benchmarks.timing import WARM_UP, Result, Stopwatch, measure
from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.experiment import Experiment
from runner.files import append_row, write_rows
from runner.rules import either, list_of, one_of, whole
from runner.running import settle
from runner.seeding import derive_seed
from runner.training.machine import describe, resolve_device
from runner.training.progress import Progress

_RULES = {
    "only": list_of(one_of(*ROWS)),
    "pairs": whole(FEWEST),
    "dropouts": list_of(lambda name: None if isinstance(name, str) else "names, see run list dropout"),
    "threads": either(None, whole(1)),
}
_IMAGE_RULES = {"train": whole(1), "test": whole(1), "size": whole(1)}
# Groups of run train that are no choice here, and what is.
_INSTEAD = {
    "data": "run bench makes its own images, see images.size and data.crop",
    "dropout": "dropouts=[targeted,…] says which are measured",
}


def bench(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: measures, prints one table, writes one CSV file."""
    for word in folders:
        raise ConfigError(f"{word!r} is not understood: options are written name=value ({word}=…)")
    configs = _Configurations(overrides, config_dir)
    config = configs.of()
    for name in config["dropouts"]:
        configs.of(f"dropout={name}")  # an unknown one is found now, not after some minutes
    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    machine = _machine(config)
    path = _new_file(Path(config["out"]))
    results = _measure(config, configs.parts, lambda result: append_row(path, COLUMNS, csv_row(result, machine)))
    print(table(results, machine))
    if warning := _warning(results):
        print(warning)
    print(path)
    return 0


def _measure(
    config: Mapping[str, Any], parts: Callable[..., Experiment], keep: Callable[[Result], object]
) -> list[Result]:
    """All results, each kept as soon as it is there."""
    device = resolve_device(config["device"])
    stopwatch = Stopwatch(torch.get_num_threads(), partial(_wait_for, device))
    kit = Kit(parts, config["dropouts"], config["pairs"] + WARM_UP)
    progress, results = Progress(unit="pair"), []
    for name in config["only"]:
        for comparison in ROWS[name](kit):
            with progress.counting(config["pairs"], f"{comparison.name} / {comparison.against}") as advance:
                results.append(measure(comparison, config["pairs"], stopwatch, advance))
            keep(results[-1])
    return results


def _wait_for(device: torch.device) -> None:
    """GPUs are told what to do, and go on on their own."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _machine(config: Mapping[str, Any]) -> dict[str, Any]:
    device = resolve_device(config["device"])
    return {
        "date": runs.now(),
        "machine": describe(device),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "precision": config["precision"],
        "torch": torch.__version__,
        "model": config["model"]["name"],
        "batch_size": config["schedule"]["batch_size"],
    }


def _new_file(folder: Path) -> Path:
    """An empty CSV file, now rather than after some minutes: the folder may not be writable."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / time.strftime("bench-%Y%m%d-%H%M%S.csv")
    write_rows(path, COLUMNS, [])
    return path


def _warning(results: Sequence[Result]) -> str | None:
    """Of the worst that was met."""
    busy, spread = max(result.others for result in results), max(result.spread for result in results)
    return load.warning(busy, spread, torch.get_num_threads(), load.usage().cores)


class _Configurations:
    """The user's configuration, with further overrides, and the parts that it names."""

    def __init__(self, overrides: Sequence[str], config_dir: Path | None) -> None:
        self._composer = Composer("bench", config_dir)
        self._overrides = list(overrides)
        self._foreign = config_dir is not None
        self._known: dict[tuple[str, ...], dict[str, Any]] = {}
        for override in overrides:
            group = override.partition("=")[0].partition(".")[0]
            if "=" in override and (group == "dropout" or override.startswith("data=")):
                raise ConfigError(f"{override}: {_INSTEAD[group]}")

    def of(self, *more: str) -> dict[str, Any]:
        """The checked configuration."""
        if more not in self._known:
            config = self._composer.single([*self._overrides, *more])
            check_each(config, _RULES, "")
            check_each(config["images"], _IMAGE_RULES, "images.")
            images, batch = config["images"]["train"], config["schedule"]["batch_size"]
            if images < batch:
                raise ConfigError(
                    f"images.train={images}: allowed is a whole batch, schedule.batch_size={batch}, or more"
                )
            self._known[more] = settle(config, self._foreign)
        return self._known[more]

    def parts(self, *more: str) -> Experiment:
        """New parts on images made at random; a model's initial weights are the same every time."""
        config = self.of(*more)
        images, seed = config["images"], config["seed"]
        splits = {
            name: random_split(images[name], images["size"], derive_seed(seed, name)) for name in ("train", "test")
        }
        data = {**config["data"], **splits, "class_names": CLASSES, "validation": 0}
        # Nothing is saved here, and so never a checkpoint.
        return Experiment.from_config({**config, "data": data, "checkpoint_minutes": 1})
