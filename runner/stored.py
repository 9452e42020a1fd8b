"""Load the configuration, the weights and the variant's scores from the folders of finished runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from runner.config.build import arguments, check_stored, check_values, is_builder, options_of, target
from runner.config.rules import check
from runner.config.sources import own_sources
from runner.dropout.base import Scores
from runner.errors import ConfigError, ForeignRun, damaged
from runner.models.weights import load_state, read_state
from runner.runs import Run


def stored_config(run: Run, asked: Mapping[str, Any], config_dir: Path | None = None) -> dict[str, Any]:
    """Return the checked configuration of a finished run, with the requested device and data location.

    Args:
        run: the run folder.
        asked: the options `device` and `data`, where a value of None in `data` keeps the run's own.
        config_dir: the folder of the user's own configurations and classes.

    Raises:
        ForeignRun: the configuration names classes that are neither in this package nor in `config_dir`, or classes
            whose source has changed.
        ConfigError: the run is not finished, its configuration has invalid values, or the data differs from the
            training data.
        DamagedRun: the configuration cannot be read or is incomplete.
    """
    if run.state() != "finished":
        raise ConfigError(f"{run.folder} is not finished ({run.state() or 'no status'}); run train resumes it")
    config = run.config()
    try:
        check_stored(config, config_dir)
    except ForeignRun as error:
        raise ForeignRun(f"{run.folder}: {error}") from None
    except ConfigError as error:
        hint = "" if config_dir else "; a run with your own classes needs --config-dir FOLDER with their files"
        raise ForeignRun(f"{run.folder}: {error}{hint}") from None
    _check_sources(run, config)
    try:
        check(config, config)
        check_values(config)
    except ConfigError as error:
        raise ConfigError(f"{run.folder}: {error}") from None
    if missing := {"seed", "precision"} - set(config):
        raise damaged(run.config_file, ValueError(f"no {', '.join(sorted(missing))} in it"))
    places = {key: value for key, value in asked["data"].items() if value is not None and key in config["data"]}
    # The weights are trained, so the initial weights are not needed.
    config = {**config, "device": asked["device"], "data": {**config["data"], **places}, "init": None}
    if config["model"].get("weights") is not None and is_builder(target(config, "model")):
        config["model"] = {**config["model"], "weights": None}
    _check_data(run, config)
    return config


def _check_sources(run: Run, config: Mapping[str, Any]) -> None:
    """Compare the source of the user's own classes with the hashes in status.json, if there are any."""
    known = run.status().get("sources")
    if not isinstance(known, Mapping):
        return
    for option, now in own_sources(config).items():
        if known.get(option, now) != now:
            part, _, key = option.partition(".")
            raise ForeignRun(
                f"{run.folder}: {option}={config[part][key]} has a different source than when the run was trained; "
                "restore it, or train the class as it is now with run train …"
            )


def _check_data(run: Run, config: Mapping[str, Any]) -> None:
    """Compare the user's own data with the inventory in status.json, if there is one."""
    known = run.status().get("data")
    if not known or not isinstance(known, Mapping):
        return
    found = data_inventory(config)
    if found != known:
        raise _other_data(run, config, _difference(known, found))


def _difference(known: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Describe how two data inventories differ, e.g. `without the classes c, d; 90 files instead of 120`."""
    words = []
    was, now = ([str(name) for name in one.get("classes", [])] for one in (known, found))
    for word, names in (("without", [n for n in was if n not in now]), ("with", [n for n in now if n not in was])):
        if names:
            few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            words.append(f"{word} the class{'es' if len(names) > 1 else ''} {few}")
    if known.get("files") != found.get("files"):
        words.append(f"{found.get('files')} files instead of {known.get('files')}")
    return "; ".join(words) or "files with other names, sizes or contents"


def _other_data(run: Run, config: Mapping[str, Any], difference: str) -> ConfigError:
    data = config["data"]
    place = f"data.root={data['root']}" if data.get("root") is not None else f"data={data['name']}"
    return ConfigError(
        f"{place} is not the data that {run.folder} was trained on ({difference}); "
        "set data.root=… to the original data, or train on this data with run train …"
    )


def data_inventory(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return properties that identify the user's own data and are quick to read, or {} for data that never changes."""
    cls, given = target(config, "data"), arguments(config, "data")
    with options_of("data"):
        if hasattr(cls, "inventory"):
            return dict(cls.inventory(**given))
        return {"fingerprint": cls.fingerprint(**given)} if hasattr(cls, "fingerprint") else {}


def load_weights(run: Run, model: nn.Module, config: Mapping[str, Any], examples: Mapping[str, int]) -> None:
    """Load a run's trained weights into its model, with no variant attached.

    Args:
        run: the run folder.
        model: the model.
        config: the run's configuration.
        examples: the current number of examples in each split of the data.

    Raises:
        DamagedRun: the weights are missing, unreadable, or those of a different model.
        ConfigError: the weights do not fit, and the data has changed since training.
    """
    run.verify(run.weights_file)
    try:
        model.load_state_dict(load_file(run.weights_file))
    except Exception as error:
        known = run.status().get("examples")
        if isinstance(known, Mapping) and known != examples:  # the weights are intact, but for other classes
            counts = [", ".join(f"{name} {count}" for name, count in one.items()) for one in (examples, known)]
            raise _other_data(run, config, f"examples: {counts[0]} instead of {counts[1]}") from None
        raise damaged(run.weights_file, error) from None


def load_scores(run: Run, device: torch.device) -> Scores:
    """Load the variant's own scores, by granularity and layer.

    Raises:
        DamagedRun: the file is missing or damaged.
    """
    run.verify(run.scores_file)
    try:
        flat = load_file(run.scores_file, device=str(device))
    except Exception as error:
        raise damaged(run.scores_file, error) from None
    scores: Scores = {}
    for name, tensor in flat.items():
        granularity, _, layer = name.partition("/")
        scores.setdefault(granularity, {})[layer] = tensor
    return scores


def weights_at(place: str) -> Path:
    """Return the weights file for `init=`, given a run folder or the file itself.

    Raises:
        ConfigError: there is no such file.
        DamagedRun: the run's weights do not match their checksum.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        run = Run(path)
        if not run.weights_file.is_file():
            raise ConfigError(f"init={place}: no trained run (it has no {run.weights_file.name})")
        run.verify(run.weights_file)
        return run.weights_file
    if not path.is_file():
        raise ConfigError(f"init={place}: no such file or folder")
    return path


def load_initial(place: str, model: nn.Module) -> None:
    """Load initial weights into a model, before a variant is attached.

    Args:
        place: a run folder, a .safetensors file, or a file from `torch.save(model.state_dict(), …)`.
        model: the model.

    Raises:
        ConfigError: the file contains objects other than tensors, or belongs to a different model. The message lists
            the first names that do not match.
    """
    option = f"init={place}"
    load_state(model, read_state(weights_at(place), option), option)
