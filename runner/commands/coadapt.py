"""run coadapt: which weights of finished runs depend on which, and what pruning changes, predicted and measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from runner import runs
from runner.analyses.coadaptation.dependence import dependence, passes
from runner.analyses.coadaptation.report import Studied, markdown, picture, save_matrix, table
from runner.analyses.coadaptation.surface import Surface
from runner.config.build import target
from runner.config.compose import Composer
from runner.config.rules import check_each, show
from runner.errors import ConfigError
from runner.experiment import Experiment
from runner.files import write_frame, write_text
from runner.models.layers import prunable_layers
from runner.reporting.columns import in_columns, seed_groups
from runner.rules import between, either, list_of, one_of, whole
from runner.runs import Run
from runner.seeding import derive_seed
from runner.stored import stored_config
from runner.tasks.classification import Classification
from runner.training.progress import Progress

# Weights of which the matrix shows all, of which it shows some, and how many then; above, no matrix and float32.
ALL = 4_000
SOME_OF = 100_000
SOME = 1_000

_RULES = {
    "layers": either(None, list_of(lambda name: None if isinstance(name, str) else "names of layers")),
    "sparsity": between(0, 1),
    "split": one_of("train", "validation", "test"),
    "members": either("auto", whole(0)),
    "probes": either(None, whole(2)),
    "dtype": one_of("auto", "float64", "float32"),
}


@dataclass(frozen=True)
class _Sample:
    """One run to study."""

    column: str  # what tells its kind from the others
    run: Run
    config: dict[str, Any]


def coadapt(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: a picture and a table of all runs, a matrix file of each."""
    if not folders:
        raise ConfigError("run coadapt needs a run folder, or several: run coadapt outputs/train/…")
    asked = Composer("coadapt", config_dir).single(overrides)
    check_each(asked, _RULES)
    samples, notes = _samples(runs.find_runs(folders), asked, config_dir)
    studied = [_study(sample, asked) for sample in samples]
    out = Path(asked["out"] or Path(asked["outputs"]) / "coadaptation" / _name(samples))
    out.mkdir(parents=True, exist_ok=True)
    rows = table(studied)
    text = markdown(rows, studied, notes)
    paths = [out / "table.csv", out / "table.md"]
    write_frame(paths[0], rows)
    write_text(paths[1], text)
    paths += [save_matrix(one, out) for one in studied if one.found.shown is not None]
    if len(paths) > 2:
        paths.append(picture(studied, out / "matrix.png"))
    print(text)
    print(*paths, sep="\n")
    return 0


def _samples(
    found: Sequence[Run], asked: Mapping[str, Any], config_dir: Path | None
) -> tuple[list[_Sample], list[str]]:
    """The runs, those that differ in their seed only together, the one without dropout first; and notes."""
    configs = {run: stored_config(run, asked, config_dir) for run in found}
    groups, notes = seed_groups(configs)
    return [_Sample(name, one.run, configs[one.run]) for name, one in in_columns(groups)], notes


def _study(sample: _Sample, asked: Mapping[str, Any]) -> Studied:
    if not issubclass(target(sample.config, "task"), Classification):
        raise ConfigError(f"{sample.run.folder}: run coadapt needs a run of task=classification")
    parts = Experiment.from_config(sample.config)
    if asked["split"] not in parts.data.splits:
        raise ConfigError(f"split={asked['split']}: {sample.run.folder} has {', '.join(parts.data.splits)}")
    parts.load(sample.run)
    layers = _layers(parts, asked)
    weights, probes = sum(layer.weight.numel() for layer in layers.values()), asked["probes"] or 0
    members, dtype = _members(asked["members"], weights), _dtype(asked["dtype"], weights, parts.device)
    batches = partial(parts.data.eval_batches, asked["split"], asked["limit"])
    examples = min(parts.data.sizes()[asked["split"]], asked["limit"] or 10**12)
    generator = torch.Generator().manual_seed(derive_seed(asked["seed"], "probes"))
    with (
        Progress().counting(examples * passes(weights, members, probes), str(sample.run.folder)) as advance,
        # Half of float32's digits would be lost on a GPU.
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        surface = Surface(parts.model, layers, batches, dtype, advance)
        found = dependence(surface, asked["sparsity"], members, probes, generator)
    return Studied(sample.column, sample.config, asked["split"], examples, found)


def _layers(parts: Experiment, asked: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return prunable_layers(parts.model, asked["layers"])
    except ValueError as error:
        raise ConfigError(f"layers={show(asked['layers'])}: {error}") from None


def _dtype(asked: str, weights: int, device: torch.device) -> torch.dtype:
    has_float64 = device.type != "mps"
    if asked == "float64" and not has_float64:
        raise ConfigError("dtype=float64: mps has none; allowed is auto, float32")
    double = asked == "float64" or (asked == "auto" and has_float64 and weights <= SOME_OF)
    return torch.float64 if double else torch.float32


def _members(asked: int | str, weights: int) -> int:
    if asked == "auto":
        return weights if weights <= ALL else SOME if weights <= SOME_OF else 0
    return min(int(asked), weights)


def _name(samples: Sequence[_Sample]) -> str:
    """`cifar10-mlp`"""
    return "-".join(
        word for group in ("data", "model") for word in dict.fromkeys(str(s.config[group]["name"]) for s in samples)
    )
