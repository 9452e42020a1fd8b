"""run compact: the networks of finished runs made really smaller, proved equal to the pruned ones, and measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from runner import runs
from runner.compaction.certificate import MARKDOWN, markdown
from runner.compaction.cutting import REMOVALS
from runner.compaction.measuring import Timing
from runner.compaction.run import Request, check_request, make_compact
from runner.compaction.widths import MARKDOWN as WIDTHS
from runner.compaction.widths import make_elastic
from runner.config import choices
from runner.config.build import PLUGINS, check_class
from runner.config.compose import Composer
from runner.config.paths import CONF
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.experiment import Experiment
from runner.rules import between, either, list_of, one_of, share, whole
from runner.runs import Run
from runner.stored import stored_config

_RULES = {
    "sparsity": between(0, 1, open_end=True),
    "floor": either("auto", between(0, 1, open_end=True)),
    "removal": one_of(*REMOVALS),
    "batch_norm": one_of("auto", "kept", "recalibrated"),
    "round_to": whole(1),
    "batches": list_of(whole(1)),
    "rounds": whole(6),
    "turn": between(0, 10),
    "threads": either(None, whole(1)),
}


def compact(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command; everything is checked before the first network is written."""
    if not folders:
        raise ConfigError("run compact needs a run folder: run compact outputs/train/… sparsity=0.9 granularity=weight")
    asked = Composer("compact", config_dir).single(overrides)
    if asked["widths"] is not None:
        asked = _of_widths(asked)
    elif asked["sparsity"] is None:
        raise ConfigError("sparsity must be given: sparsity=0.9")
    check_each(asked, _RULES)
    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    configs = {run: stored_config(run, asked, config_dir) for run in runs.find_runs(folders)}
    jobs = [
        (run, config, request)
        for run, config in configs.items()
        for request in _requests(run, config, asked, config_dir)
    ]
    timing = Timing(*(asked[name] for name in ("batches", "rounds", "turn", "compile", "onnxruntime", "layers")))
    for run, config, request in jobs:
        with run.locked():
            folder = run.compact_folder(request.granularity["key"], request.sparsity)
            report = folder / MARKDOWN
            if asked["widths"] is not None:
                folder = run.elastic_folder
                report = folder / WIDTHS
            if report.is_file() and not asked["force"]:
                print(report.read_text())
                print(f"{folder} (was there already; force=true makes it again)")
                continue
            experiment = Experiment.from_config(config)
            if asked["widths"] is not None:
                print(make_elastic(experiment, run, request, asked["widths"], timing))
            else:
                print(markdown(make_compact(experiment, run, request, timing)))
            print(folder)
    return 0


def _of_widths(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an elastic file.

    Raises:
        ConfigError: widths that are not allowed, or options that are of one sparsity.
    """
    check_each(asked, {"widths": list_of(share())})
    widths = sorted({1.0, *(float(width) for width in asked["widths"])})
    for name, usual in (("sparsity", None), ("floor", "auto"), ("removal", "clean"), ("round_to", 1), ("half", False)):
        if asked[name] != usual:
            raise ConfigError(f"{name}={asked[name]} can't be combined with widths=, one file for every width")
    if asked["granularity"] not in ("auto", "feature"):
        raise ConfigError(f"granularity={asked['granularity']}: widths= are of features; expected feature")
    return {**asked, "granularity": "feature", "widths": widths, "sparsity": 0.0}


def _requests(run: Run, config: Mapping[str, Any], asked: Mapping[str, Any], config_dir: Path | None) -> list[Request]:
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
    """Whole parts of choices."""
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
