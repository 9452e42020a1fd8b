"""Format results as a table for the terminal and as rows of a CSV file."""

from collections.abc import Mapping, Sequence
from typing import Any

from runner.benchmarks.timing import Result

# Everything that a figure depends on, other than the code. These columns are in every row, so that rows of several
# machines can be combined.
MACHINE_COLUMNS = ("date", "machine", "device", "threads", "precision", "torch", "model", "batch_size")
COLUMNS = (
    *MACHINE_COLUMNS,
    *("what", "against", "ratio", "low", "high", "target", "higher_is_better", "reached", "pairs"),
    *("seconds", "against_seconds", "unit", "rate", "against_rate", "spread", "others_cores"),
)
_HEAD = ("what", "against", "ratio", "95 % interval", "target", "reached", "pairs", "here*", "against*")
_LEFT = (True, True, False, False, False, False, False, False, False)
_NONE = "–"
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1.0, ""))


def csv_row(result: Result, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row of the CSV file, with the keys in `COLUMNS`."""
    return {
        **machine,
        "what": result.name,
        "against": result.against,
        "ratio": round(result.ratio, 5),
        "low": round(result.low, 5),
        "high": round(result.high, 5),
        "target": result.target,
        "higher_is_better": result.higher_is_better,
        "reached": result.reached,
        "pairs": result.pairs,
        "seconds": _digits(result.seconds[0]),
        "against_seconds": _digits(result.seconds[1]),
        "unit": result.unit,
        "rate": _digits(result.rates[0]),
        "against_rate": _digits(result.rates[1]),
        "spread": round(result.spread, 4),
        "others_cores": round(result.others, 3),
    }


def table(results: Sequence[Result], machine: Mapping[str, Any]) -> str:
    """Format all results as one table. Ratios are comparable between machines; columns marked with * are not."""
    lines = [_HEAD, *map(_cells, results)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, _LEFT, strict=True)
        ).rstrip()
        for line in lines
    ]
    threads = f"{machine['threads']} thread{'' if machine['threads'] == 1 else 's'}"
    where = f"{machine['machine']}, {threads}, {machine['precision']}, torch {machine['torch']}"
    step = f"{machine['model']}, batches of {machine['batch_size']}"
    return "\n".join([*shown, "", f"* medians on this machine ({where}) for {step}; not comparable between machines"])


def _cells(result: Result) -> tuple[str, ...]:
    sign = "≥" if result.higher_is_better else "≤"
    return (
        result.name,
        result.against,
        f"{result.ratio:.3f}",
        f"{result.low:.3f} to {result.high:.3f}",
        _NONE if result.target is None else f"{sign} {result.target:.2f}",
        result.reached or _NONE,
        str(result.pairs),
        *(_absolute(result, side) for side in (0, 1)),
    )


def _absolute(result: Result, side: int) -> str:
    """Format a time, or a speed if speeds are compared."""
    if result.higher_is_better:
        rate = result.rates[side]
        factor, prefix = next((f, p) for f, p in _PREFIXES if rate >= f or f == 1)
        return f"{_three_digits(rate / factor)} {prefix}{result.unit}/s"
    return f"{_three_digits(1000 * result.seconds[side])} ms"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _digits(value: float) -> float:
    return float(f"{value:.5g}")
