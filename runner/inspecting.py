"""The networks examined by `run inspect`, and the output for each of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runner import runs
from runner.checks import kinds_of
from runner.compaction.inspection import Inspection
from runner.config.build import build, is_builder, options_of, target
from runner.experiment import Experiment
from runner.reporting.formats import NONE, percent
from runner.reporting.writing import padded
from runner.stored import load_scores, stored_config

_TOKENS = 16  # per example
_COLUMNS = ("layer", "kind", "shape", "parameters", "flops", "prunable", "why_not", "group", "goes_with")
_LEFT = ("filters", "filters_left", "inputs", "inputs_left", "parameters_left", "flops_left", "stays")
COLUMNS = ("network", *_COLUMNS, *_LEFT)  # of the CSV file


@dataclass(frozen=True)
class Subject:
    """A network with an example input and, if available, its variant's own scores."""

    title: str
    model: nn.Module
    example: tuple[Tensor, ...]
    scores: Mapping[str, Tensor] | None = None


def built(asked: Mapping[str, Any]) -> Subject:
    """Build the model given on the command line and an example input of the requested shape."""
    cls, part = target(asked, "model"), asked["model"]
    foreign = is_builder(cls)
    kinds, (kind,) = kinds_of(cls), kinds_of(target(asked, "data"))
    kind = kind if kind in kinds else kinds[0]
    if hasattr(cls, "settle"):
        part = cls.settle(part, kind)
    size = (
        asked["image_size"]
        or part.get("input_size")
        or (224 if foreign and getattr(cls, "minimum_size", 1) > 1 else 32)
    )
    about = {
        "pairs": {"vocabulary": asked["vocabulary"]},
        "text": {"vocabulary": asked["vocabulary"], "context": _TOKENS},
    }.get(kind, {"channels": asked["channels"], "image_size": size, "classes": asked["classes"]})
    torch.manual_seed(0)
    made = build({**asked, "model": part}, "model", **about)
    with options_of("model"):
        network = made.build() if foreign else made
    if foreign:
        return Subject(part["name"], network, made.example(network))
    tokens = tuple(torch.randint(3, max(asked["vocabulary"], 4), (2, _TOKENS)) for _ in range(2))
    images = (torch.rand(2, asked["channels"], size, size),)
    return Subject(part["name"], network, {"pairs": tokens, "text": tokens[:1]}.get(kind, images))


def stored(
    folders: Sequence[str],
    overrides: Sequence[str],
    asked: Mapping[str, Any],
    config_dir: Path | None,
    granularity: str,
) -> Iterator[Subject]:
    """Yield the networks of finished runs, with the scores that their own sweeps use."""
    roots = [text.partition("=")[2] for text in overrides if text.startswith("data.root=")]
    where = {**asked, "data": {"root": roots[-1] if roots else None}}
    for run in runs.find_runs(folders):
        experiment = Experiment.from_config(stored_config(run, where, config_dir))
        experiment.load(run)
        own = load_scores(run, experiment.device).get(granularity)
        yield Subject(str(run.folder), experiment.model.cpu(), experiment.example(), own)


def table(title: str, found: Inspection, sparsity: float, granularity: str) -> list[str]:
    """Format an inspection: one row per layer, then the groups, the notes and the costs of the whole network."""
    at = f"at {percent(sparsity)} %"
    rows = [
        ["layer", "shape", "parameters", "FLOPs", "prunable", "group", f"{at}: left", "parameters", "FLOPs", "stays"]
    ]
    for one in found.layers:
        left = "all" if one.left == one.whole else f"{one.left[0]}/{one.whole[0]} x {one.left[1]}/{one.whole[1]}"
        rows.append(
            [
                *(one.layer, "x".join(map(str, one.shape)), f"{one.parameters:,}", _count(one.flops)),
                *("yes" if one.prunable else one.why_not, str(one.group or NONE), left),
                *(f"{one.parameters_left:,}", _count(one.flops_left), one.stays),
            ]
        )
    lines = [f"{title}, in the order of computation; FLOPs per example", "", *padded(rows), ""]
    lines += [f"group {number}, cut together: {', '.join(names)}" for number, names in found.groups.items()]
    prunable = sum(one.parameters for one in found.layers if one.prunable)
    saved = (
        f"cut at {granularity} sparsity {percent(sparsity)} % in each layer: "
        f"{found.parameters_left:,} parameters ({found.parameters_left / found.parameters:.2f}), "
        f"{found.flops_left:,} FLOPs ({found.flops_left / max(found.flops, 1):.2f}) would remain"
    )
    whole = f"{found.parameters:,} parameters, {prunable:,} of them in prunable layers; {found.flops:,} FLOPs"
    return [*lines, *found.notes, whole, saved]


def rows(found: Inspection) -> Iterator[dict[str, Any]]:
    """Yield the rows of an inspection for a CSV file, one per layer."""
    for one in found.layers:
        together = [name for name in found.groups.get(one.group or 0, []) if name != one.layer]
        yield {
            **{name: getattr(one, name) for name in (*_COLUMNS[:-1], "parameters_left", "flops_left", "stays")},
            **{"shape": "x".join(map(str, one.shape)), "goes_with": " ".join(together)},
            **{"filters": one.whole[0], "filters_left": one.left[0]},
            **{"inputs": one.whole[1], "inputs_left": one.left[1]},
        }


def _count(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"
