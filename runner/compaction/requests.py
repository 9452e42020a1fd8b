"""Convert the options of `run compact` to requests and check them before anything is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.compaction.run import Request, check_request
from runner.config import choices
from runner.config.build import PLUGINS, check_class
from runner.config.paths import CONF
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.experiment import Experiment
from runner.rules import list_of, share
from runner.runs import Run


def requests_for(
    run: Run, config: Mapping[str, Any], asked: Mapping[str, Any], config_dir: Path | None
) -> list[Request]:
    """Return one request per granularity.

    Raises:
        ConfigError: a choice is unknown, or the run's network can't be made compact this way.
    """
    experiment = Experiment.from_config(config)
    granularities = experiment.variant.granularities if asked["granularity"] == "auto" else asked["granularity"]
    (criterion,) = _parts("criterion", asked["criterion"], config_dir, 1)
    requests = [
        Request(
            granularity=granularity,
            criterion=criterion,
            **{
                name: asked[name] for name in ("sparsity", "removal", "batch_norm", "round_to", "fold", "floor", "half")
            },
        )
        for granularity in _parts("granularity", granularities, config_dir, None)
    ]
    for request in requests:
        check_request(experiment, run, request)
    return requests


def _parts(group: str, value: Any, config_dir: Path | None, most: int | None) -> list[choices.Part]:
    """Resolve choices that are given by name."""
    folders = [CONF] if config_dir is None else [CONF, config_dir]
    try:
        parts = choices.settle(group, list(value) if isinstance(value, tuple) else value, folders)
        for part in parts:
            check_class(f"{group}._target_", part["_target_"], PLUGINS[group], config_dir is not None)
    except ConfigError as error:
        raise ConfigError(str(error).replace(f"prune.{group}", group)) from None
    if most is not None and len(parts) != most:
        raise ConfigError(f"{group}={value}: expected one name")
    return parts


def options_of_widths(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options of an elastic file and fill in the missing ones.

    Raises:
        ConfigError: the widths are invalid, or an option only applies to a single sparsity.
    """
    check_each(asked, {"widths": list_of(share())})
    widths = sorted({1.0, *(float(width) for width in asked["widths"])})
    for name, usual in (("sparsity", None), ("floor", "auto"), ("removal", "clean"), ("round_to", 1), ("half", False)):
        if asked[name] != usual:
            raise ConfigError(f"{name}={asked[name]} can't be combined with widths=, one file for every width")
    if asked["granularity"] not in ("auto", "feature"):
        raise ConfigError(f"granularity={asked['granularity']}: widths= apply to features; expected feature")
    return {**asked, "granularity": "feature", "widths": widths, "sparsity": 0.0}
