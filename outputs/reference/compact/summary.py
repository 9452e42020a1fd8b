"""One table of all certificates below units/: python outputs/reference/compact/summary.py writes units/table.md."""

import re
from pathlib import Path

from runner.files import read_rows, write_text
from runner.reporting.writing import padded

here = Path(__file__).with_name("units")
head = [
    "network",
    "dropout",
    "removed",
    "parameters",
    "bytes",
    "FLOPs",
    "batch",
    "fastest dense",
    "ms",
    "fastest compact",
]
head += ["ms", "faster by", "quartiles", "of the FLOPs' ratio"]
table = [head]
for file in sorted(here.glob("*/certificate.csv")):
    model, dropout, granularity, _ = file.parent.name.split("-")
    rows = read_rows(file)
    for batch in sorted({int(row["batch"]) for row in rows if row["batch"]}):
        ways = [row for row in rows if row["batch"] == str(batch)]
        dense, small = (
            min((row for row in ways if row["network"] == network), key=lambda row: float(row["milliseconds"]))
            for network in ("dense", "compact")
        )
        speedup, low, high, ideal = (
            float(small[name]) for name in ("speedup", "speedup_low", "speedup_high", "ideal_speedup")
        )
        fewer = [f"{int(dense[name]) / int(small[name]):.1f}x fewer" for name in ("parameters", "bytes", "flops")]
        actual = re.search(r"([\d.]+) % actual", file.with_suffix(".md").read_text())
        assert actual is not None
        removed = f"{actual[1]} % of the {'features' if granularity == 'feature' else 'filters'}"
        times = [
            dense["way"],
            f"{float(dense['milliseconds']):.3g}",
            small["way"],
            f"{float(small['milliseconds']):.3g}",
        ]
        measured = [f"{speedup:.2f}x", f"{low:.2f}–{high:.2f}", f"{100 * speedup / ideal:.0f} %"]
        table.append([model, dropout, removed, *fewer, str(batch), *times, *measured])
text = "\n".join(padded(table))
write_text(here / "table.md", text + "\n")
print(text)
