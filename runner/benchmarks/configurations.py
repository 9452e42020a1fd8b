"""The configurations of `run bench`: the user's configuration with random images as data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.benchmarks.images import CLASSES, random_split
from runner.benchmarks.intervals import FEWEST
from runner.benchmarks.rows import ROWS
from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.experiment import Experiment
from runner.rules import either, list_of, one_of, whole
from runner.running import settle
from runner.seeding import derive_seed

_RULES = {
    "only": list_of(one_of(*ROWS)),
    "pairs": whole(FEWEST),
    "dropouts": list_of(
        lambda name: None if isinstance(name, str) else "names of dropout variants; see run list dropout"
    ),
    "threads": either(None, whole(1)),
}
_IMAGE_RULES = {"train": whole(1), "test": whole(1), "size": whole(1)}
# Groups of run train that cannot be chosen here, and the alternatives.
_INSTEAD = {
    "data": "run bench generates its own images; use images.size and data.crop",
    "dropout": "use dropouts=[targeted,…] to choose the variants to measure",
}


class Configurations:
    """The user's configuration with further overrides, and the objects that it names.

    Raises:
        ConfigError: an override is not supported by this command.
    """

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
        """Return the checked configuration with further overrides."""
        if more not in self._known:
            config = self._composer.single([*self._overrides, *more])
            check_each(config, _RULES, "")
            check_each(config["images"], _IMAGE_RULES, "images.")
            images, batch = config["images"]["train"], config["schedule"]["batch_size"]
            if images < batch:
                raise ConfigError(
                    f"images.train={images}: expected a whole batch, schedule.batch_size={batch}, or more"
                )
            self._known[more] = settle(config, self._foreign)
        return self._known[more]

    def parts(self, *more: str) -> Experiment:
        """Build a new experiment, with random images as data. The model's initial weights are the same every time."""
        config = self.of(*more)
        images, seed = config["images"], config["seed"]
        splits = {
            name: random_split(images[name], images["size"], derive_seed(seed, name)) for name in ("train", "test")
        }
        data = {**config["data"], **splits, "class_names": CLASSES, "validation": 0}
        # Nothing is saved here, so checkpoint_minutes has no effect.
        return Experiment.from_config({**config, "data": data, "checkpoint_minutes": 1})
