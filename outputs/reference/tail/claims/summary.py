"""python summary.py: few.md beside this file, from few.csv: regularisation, and k chosen on validation."""

from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
table = pd.read_csv(HERE / "few.csv").assign(p=lambda t: t.p.fillna(0))
whole = table[(table.width == 1) & (table.split == "test")]
lines = [
    "| dropout | p | features | training accuracy % | test accuracy % | difference to none | test loss |",
    "|---|---:|---|---:|---:|---:|---:|",
]
none = whole[(whole.dropout == "none") & (whole.features == "6-500")].set_index("seed").accuracy


def spread(values, scale, digits):
    return f"{scale * values.mean():.{digits}f} ± {scale * values.std():.{digits}f}"


for (dropout, p, features), part in whole.groupby(["dropout", "p", "features"], sort=True):
    part = part.set_index("seed")
    difference = "" if part.accuracy.equals(none) else spread(part.accuracy - none, 100, 1)
    about = f"| `{dropout}` | {p:g} | {features} | " if dropout != "none" else f"| `none` | | {features} | "
    means = [spread(part.train_accuracy, 100, 1), spread(part.accuracy, 100, 1), difference, spread(part.loss, 1, 3)]
    lines.append(about + " | ".join(means) + " |")

lines += [
    "",
    "| p | chosen by | widths, seeds 0, 1, 2 | cut: accuracy % | cut: loss | whole: accuracy % | whole: loss |",
    "|---:|---|---|---:|---:|---:|---:|",
]
for p, part in table[table.dropout == "tail"].groupby("p"):
    for by, sign in (("accuracy", -1), ("loss", 1)):
        widths, cut, full = [], [], []
        for _, one in part.groupby("seed"):
            validation = one[one.split == "validation"].set_index("width")[by]
            test = one[one.split == "test"].set_index("width")
            widths.append((sign * validation).idxmin())
            cut.append(test.loc[widths[-1]])
            full.append(test.loc[1.0])
        cut, full = pd.DataFrame(cut), pd.DataFrame(full)
        cells = [
            spread(one[name], *how) for one in (cut, full) for name, how in (("accuracy", (100, 1)), ("loss", (1, 3)))
        ]
        lines.append(f"| {p:g} | {by} | {', '.join(f'{w:g}' for w in widths)} | " + " | ".join(cells) + " |")
(HERE / "few.md").write_text("\n".join(lines) + "\n")
print("\n".join(lines))
