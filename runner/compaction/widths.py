"""Convert a finished run to an elastic file that is proved and measured at each requested width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runner.compaction.costs import expected_parameters
from runner.compaction.cutting import compact
from runner.compaction.elastic import ELASTIC, Elastic, load_elastic, narrowed, save_elastic, statistics_of
from runner.compaction.measuring import Measured, Timing, measure
from runner.compaction.proof import Proof, prove
from runner.compaction.run import (
    Request,
    builder_of,
    check_request,
    difference,
    inputs_of_test,
    measure_statistics,
    metrics_on_test,
    plain_copy,
    replaced,
    sweeper_of,
    test_images,
)
from runner.errors import ConfigError, UserError
from runner.experiment import Experiment
from runner.files import write_rows, write_text
from runner.pruning.granularities.feature import FeatureMembers
from runner.pruning.sweep import has_batch_norm
from runner.reporting.formats import metric_label, number
from runner.reporting.writing import padded
from runner.runs import Run
from runner.tasks.metrics import of_task

CSV, MARKDOWN, FIGURE = "widths.csv", "widths.md", "widths.png"


@dataclass(frozen=True)
class Width:
    """One width of an elastic file: its costs and metrics, and the proof that it equals the pruned network."""

    width: float
    proof: Proof
    metrics: Mapping[str, float]
    measured: Measured

    def row(self) -> dict[str, Any]:
        """Return the row for the CSV file. Its times are those of the fastest way for each batch size."""
        costs = self.measured.costs["compact"]
        row: dict[str, Any] = {"width": self.width, "parameters": costs.parameters, "flops": costs.flops}
        row |= {**self.metrics, "largest_difference": self.proof.relative}
        for batch in dict.fromkeys(way.batch for way in self.measured.ways):
            ways = [way for way in self.measured.ways if way.network == "compact" and way.batch == batch]
            best = min(ways, key=lambda way: way.milliseconds[0])
            row |= {f"way_{batch}": best.way, f"milliseconds_{batch}": best.milliseconds[0]}
            row |= dict(zip((f"speedup_{batch}{end}" for end in ("", "_low", "_high")), best.speedup, strict=True))
        return row


def make_elastic(experiment: Experiment, run: Run, request: Request, widths: Sequence[float], timing: Timing) -> str:
    """Write the elastic file of a run with a table and a figure of its widths, and return the table.

    Args:
        request: a request for features; its sparsity is not used.
        widths: increasing values in (0, 1] that end with 1. BatchNorm is measured at each of them, and each is proved
            and timed.

    Raises:
        ConfigError: the model has no feature places.
        UserError: a proof fails; nothing is kept.
    """
    members = check_request(experiment, run, request)
    if not isinstance(members, FeatureMembers):
        raise ConfigError(f"granularity={request.granularity['key']}: widths apply to features; expected feature")
    experiment.load(run)
    ranking = sweeper_of(experiment, run, request).ranking(members, "layer", request.criterion["key"])
    order = {name: ranks[0].argsort(descending=True).cpu() for name, ranks in ranking.ranks.items()}
    whole = plain_copy(experiment.model).cpu()
    example = tuple(part[:2].cpu() for part in next(inputs_of_test(experiment)))
    inputs = [(tuple(part.shape), part.dtype) for part in example]
    recalibrates = request.recalibrates and has_batch_norm(whole)
    with replaced(run.elastic_folder, run) as partial:
        references = {width: _reference(experiment, whole, order, width, example, recalibrates) for width in widths}
        statistics = {w: statistics_of(network) for w, network in references.items()} if recalibrates else {}
        content = Elastic(whole, order, statistics, inputs, request.fold)
        stored = save_elastic(partial / ELASTIC, content, *builder_of(experiment))
        elastic = load_elastic(partial / ELASTIC)
        found = []
        for width in widths:
            result = elastic.at(width)
            batches = (tuple(part.cpu() for part in batch) for batch in inputs_of_test(experiment))
            expected = expected_parameters(references[width], result.structure)
            proof = prove(references[width], result.network, batches, expected)
            if not proof.holds:
                raise UserError(f"{run.folder}: width {width:g}: {difference(proof)}; nothing was kept")
            networks = {"trained": whole, "reference": references[width], "compact": result.network}
            images = test_images(experiment)
            measured = measure(networks, example, None if images is None else images.cpu(), stored, False, timing)
            metrics = metrics_on_test(experiment, result.network.to(experiment.device))
            found.append(Width(width, proof, metrics, measured))
        return _write(experiment, run, found, stored, partial)


def _reference(
    experiment: Experiment,
    whole: nn.Module,
    order: Mapping[str, torch.Tensor],
    width: float,
    example: Sequence[torch.Tensor],
    recalibrates: bool,
) -> nn.Module:
    """Return the whole network with all features beyond a width set to zero and BatchNorm measured in this state."""

    def recalibrate(network: nn.Module) -> None:
        network.to(experiment.device)
        measure_statistics(experiment, network)
        network.cpu()

    return compact(narrowed(whole, order, width), example, recalibrate=recalibrate if recalibrates else None).reference


def _write(experiment: Experiment, run: Run, found: Sequence[Width], stored: int, folder: Path) -> str:
    rows = [one.row() for one in found]
    write_rows(folder / CSV, list(rows[0]), rows)
    text = _markdown(experiment, run, rows, found, stored)
    write_text(folder / MARKDOWN, text)
    _draw(experiment, rows, _batches(found), folder / FIGURE)
    return text


def _batches(found: Sequence[Width]) -> dict[int, str]:
    """Return the label of each timed batch size."""
    measured = found[0].measured
    batches = dict.fromkeys(way.batch for way in measured.ways)
    return {batch: f"batch {batch}" if measured.unit == "images" else f"{batch} {measured.unit}" for batch in batches}


def _markdown(
    experiment: Experiment, run: Run, rows: Sequence[Mapping[str, Any]], found: Sequence[Width], stored: int
) -> str:
    headline = of_task(experiment.task)[experiment.task.headline]
    head = ["width", "parameters", "FLOPs", metric_label("test", headline), *_batches(found).values()]
    cells = [
        [
            f"{100 * row['width']:g} %",
            f"{row['parameters']:,}",
            f"{row['flops']:,}",
            number(row[headline.name], headline),
            *(
                f"{row[f'speedup_{batch}']:.2f}x ({row[f'speedup_{batch}_low']:.2f}–{row[f'speedup_{batch}_high']:.2f})"
                for batch in _batches(found)
            ),
        ]
        for row in rows
    ]
    measured = found[0].measured
    largest = max(one.proof.relative for one in found)
    lines = [
        f"## {run.folder}: one file, {stored:,} bytes, for every width",
        "",
        *padded([head, *cells]),
        "",
        "At each of these widths the cut network has the same outputs as the whole network with the other features set "
        f"to zero, on {found[0].proof.examples:,} test examples (largest relative difference {largest:.1e}). The last "
        "columns: speedup over the fastest dense method for the whole network, with interleaved measurements, median "
        f"(quartiles), {measured.threads} thread{'s' * (measured.threads > 1)}.",
    ]
    return "\n".join(lines) + "\n"


def _draw(experiment: Experiment, rows: Sequence[Mapping[str, Any]], batches: Mapping[int, str], path: Path) -> None:
    """Plot the headline metric and the speed against the width."""
    from matplotlib.figure import Figure

    from runner.reporting.drawing import GRID, Style, save

    headline = of_task(experiment.task)[experiment.task.headline]
    figure = Figure(figsize=(4.9 * (1 + len(batches)), 3.6), dpi=110, layout="constrained")
    panels = figure.subplots(1, 1 + len(batches), squeeze=False)[0]
    widths = [100 * row["width"] for row in rows]
    factor = 100 if headline.percent else 1
    for index, axes in enumerate(panels):
        style = Style.number(index + 1)
        name = headline.name if index == 0 else f"speedup_{list(batches)[index - 1]}"
        values = [row[name] * (1 if index else factor) for row in rows]
        axes.plot(widths, values, color=style.colour, marker=style.marker)
        if index:
            low, high = ([row[f"{name}{end}"] for row in rows] for end in ("_low", "_high"))
            axes.fill_between(widths, low, high, color=style.colour, alpha=0.2, linewidth=0)
            axes.set(ylabel=f"speedup over the whole network, {list(batches.values())[index - 1]}", ylim=(0, None))
        else:
            axes.set_ylabel(metric_label("test", headline))
        axes.set_xlabel("features of each place (%)")
        axes.grid(color=GRID, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
