"""Certificates of compact networks: costs, latency, and the proof of equality with the pruned network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.benchmarks import load
from runner.compaction.cutting import LayerCut
from runner.compaction.layers import LayerRow
from runner.compaction.measuring import Measured, Way
from runner.compaction.proof import Proof
from runner.compaction.ways import WHOLE
from runner.files import write_rows, write_text
from runner.reporting.formats import NONE, metric_label, number
from runner.reporting.writing import padded
from runner.tasks.metrics import Metric

CSV, MARKDOWN = "certificate.csv", "certificate.md"
COLUMNS = (
    *("network", "way", "part", "batch", "unit", "threads", "turn"),
    *("parameters", "nonzero", "bytes", "flops", "peak_bytes"),
    *("milliseconds", "milliseconds_low", "milliseconds_high", "per_second"),
    *("speedup", "speedup_low", "speedup_high", "ideal_speedup"),
)


@dataclass(frozen=True)
class Certificate:
    """Measurements of one compact network.

    Args:
        title: description of the run and the request.
        metrics: test metrics of the networks "trained", "pruned" (BatchNorm kept), "reference" (used for comparison in
            the proof) and "compact".
        recalibrated: whether the reference's BatchNorm statistics were recalibrated.
        report: how each layer was cut; empty for a packed network.
    """

    title: str
    actual_sparsity: float
    declared: Mapping[str, Metric]  # how the task describes its metrics
    metrics: Mapping[str, Mapping[str, float]]
    recalibrated: bool
    proof: Proof
    measured: Measured
    report: list[LayerCut]


def write_certificate(certificate: Certificate, folder: Path) -> None:
    """Write certificate.csv and certificate.md."""
    write_rows(folder / CSV, COLUMNS, rows(certificate))
    write_text(folder / MARKDOWN, markdown(certificate))


def rows(certificate: Certificate) -> list[dict[str, Any]]:
    """Return one row per execution method, part and batch size; the compact network has at least one."""
    measured = certificate.measured
    small = list(measured.costs.values())[-1]
    found = []
    for way in measured.ways:
        row: dict[str, Any] = {**vars(way), **vars(measured.costs["dense"] if way.network == "dense" else small)}
        row |= {name: getattr(measured, name) for name in ("unit", "threads", "turn")}
        row["ideal_speedup"] = row.pop("ideal")
        row |= _quartiles("milliseconds", way.milliseconds) | _quartiles("speedup", way.speedup)
        found.append({**row, "per_second": 1e3 * way.batch / way.milliseconds[0]})
    if all(row["network"] == "dense" for row in found):  # there are no kernels for its zeros
        found.append({"network": "compact", "threads": measured.threads, **vars(small)})
    return found


def _quartiles(name: str, values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def markdown(certificate: Certificate) -> str:
    """Format the certificate as Markdown: headline, costs, metrics, proof, times, verdicts and notes."""
    measured = certificate.measured
    lines = [f"## {certificate.title}, {100 * certificate.actual_sparsity:.2f} % actual", ""]
    lines += [*padded(_costs(certificate)), "", *padded(_metrics(certificate)), "", _proof(certificate), ""]
    lines += times_and_layers(measured)
    lines += [f"- {note}" for note in _notes(certificate)]
    return "\n".join(lines).rstrip("\n") + "\n"


def times_and_layers(measured: Measured) -> list[str]:
    """Return Markdown lines with the timing table, the verdict and any per-layer times for each batch size."""
    lines: list[str] = []
    for part, batch in dict.fromkeys((way.part, way.batch) for way in measured.ways):
        ways = [way for way in measured.ways if (way.part, way.batch) == (part, batch)]
        what = "" if part == WHOLE else f", {part}"
        lines += [f"Batch {batch} ({measured.unit}){what}, {_conditions(measured)}:", ""]
        lines += [*padded(_times(ways, measured.unit)), "", verdict(ways), ""]
        if layers := measured.layers.get(batch):
            lines += ["Layer by layer:", "", *padded(_layers(layers)), ""]
    return lines


def _conditions(measured: Measured) -> str:
    threads = f"{measured.threads} thread{'s' * (measured.threads > 1)}"
    if not measured.turn:
        return f"{threads}, interleaved single calls, with caches as the other calls left them"
    return f"{threads}, interleaved, each repeated for {1e3 * measured.turn:g} ms at a time"


def _costs(certificate: Certificate) -> list[list[str]]:
    costs = certificate.measured.costs
    whole = costs["dense"]
    head = ["network", "parameters", "non-zeros", "bytes", "smaller by", "FLOPs per example", "fewer by"]
    return [
        head,
        *(
            [
                name,
                f"{one.parameters:,}",
                NONE if one.nonzero is None else f"{one.nonzero:,}",
                f"{one.bytes:,}",
                f"{whole.bytes / one.bytes:.2f}x",
                f"{one.flops:,}",
                f"{whole.flops / max(1, one.flops):.2f}x",
            ]
            for name, one in costs.items()
        ),
    ]


def _metrics(certificate: Certificate) -> list[list[str]]:
    names = {
        "trained": "trained",
        "pruned": "pruned, BatchNorm kept" if certificate.recalibrated else "pruned",
        "reference": "pruned, BatchNorm recalibrated" if certificate.recalibrated else "pruned, as used in the proof",
        "compact": "compact, loaded from its file",
    }
    metrics = [certificate.declared[name] for name in certificate.metrics["compact"] if name != "examples"]
    body = [[names[key], *(number(one[m.name], m) for m in metrics)] for key, one in certificate.metrics.items()]
    return [["network", *(metric_label("test", metric) for metric in metrics)], *body]


def _proof(certificate: Certificate) -> str:
    proof = certificate.proof
    same = f"the same prediction for all {proof.choices:,}"
    if proof.same_choice < proof.choices:
        same = f"a different prediction for {proof.choices - proof.same_choice:,} of {proof.choices:,}, within rounding"
    return (
        f"Proved on {proof.examples:,} test examples, float32: outputs differ from the pruned network's by at most "
        f"{proof.absolute:.1e} ({proof.relative:.1e} relative), {same}; {proof.parameters:,} parameters, as "
        "calculated."
    )


def _times(ways: list[Way], unit: str) -> list[list[str]]:
    head = ["network", "executed by", "ms", "quartiles", f"{unit}/s", "faster by", "quartiles", "ideal", "peak MB"]
    body = []
    for way in ways:
        (ms, low, high), (ratio, ratio_low, ratio_high) = way.milliseconds, way.speedup
        peak = NONE if way.peak_bytes is None else f"{way.peak_bytes / 1e6:.1f}"
        body.append(
            [
                *(way.network, way.way, f"{ms:.3g}", f"{low:.3g}–{high:.3g}", f"{1e3 * way.batch / ms:,.0f}"),
                *(f"{ratio:.2f}x", f"{ratio_low:.2f}–{ratio_high:.2f}", f"{way.ideal:.1f}x", peak),
            ]
        )
    return [head, *body]


def _layers(rows: Sequence[LayerRow]) -> list[list[str]]:
    head = ["layer", "remaining", "ideal", "dense ms", "compact ms", "faster by"]
    body = []
    for row in rows:
        ideal = NONE if row.ideal is None else f"{row.ideal:.1f}x"
        dense, ratio = NONE, NONE
        if row.dense_ms is not None:
            dense, ratio = f"{row.dense_ms:.3g}", f"{row.dense_ms / row.small_ms:.1f}x"
        body.append([row.layer, row.shape, ideal, dense, f"{row.small_ms:.3g}", ratio])
    return [head, *body]


def verdict(ways: Sequence[Way]) -> str:
    """Return a sentence that names the compact network's fastest way, or says that none is faster than the dense one.

    Args:
        ways: measurements for a single batch size and part.
    """
    batch, part = ways[0].batch, "network" if ways[0].part == WHOLE else f"network's {ways[0].part}"
    dense = min((way for way in ways if way.network == "dense"), key=lambda way: way.milliseconds[0])
    small = min((way for way in ways if way.network != "dense"), key=lambda way: way.milliseconds[0], default=None)
    if small is None or small.speedup[1] <= 1:
        nearest = "" if small is None else f"; the closest is {small.way} with {small.speedup[0]:.2f}x"
        return f"**No method is faster than the dense {part} ({dense.way}) at batch {batch}{nearest}.**"
    return (
        f"**At batch {batch}, the compact {part} is fastest with {small.way}: {small.speedup[0]:.2f} times as fast as "
        f"the fastest dense method ({dense.way}); the ratio of FLOPs is {small.ideal:.1f}.**"
    )


def _notes(certificate: Certificate) -> list[str]:
    measured = certificate.measured
    notes = list(measured.notes)
    widths = [(way.milliseconds[2] - way.milliseconds[1]) / way.milliseconds[0] for way in measured.ways]
    if warning := load.warning(measured.others, max(widths, default=0.0), measured.threads, load.usage().cores):
        notes.append(warning)
    for layer in certificate.report:
        for reason, count in layer.stays.items():
            notes.append(f"{layer.name}: {count} of {layer.zero} zero filters stay: {reason}")
    scattered = [layer.name for layer in certificate.report if layer.scattered]
    if scattered:
        notes.append(f"written into a residual sum by index, which keeps its width: {', '.join(scattered)}")
    return notes
