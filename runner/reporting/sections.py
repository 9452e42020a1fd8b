"""What `run table` shows: sections of columns and rows, with notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from runner.reporting.beside import PublishedValues
from runner.reporting.formats import BATCH_NORMS, granularity_label, metric_label, percent
from runner.reporting.pairing import INTERVAL, PAIRED_COLUMNS, added_unpruned
from runner.reporting.points import is_unpruned
from runner.runs import Run
from runner.tasks.metrics import Metric

CSV_COLUMNS = (
    *("granularity", "batch_norm", "scope", "scores", "split", "metric"),
    *("column", "source", "floor", "sparsity", "actual_sparsity", "mean", "std", "n"),  # source: of published columns
)


@dataclass(frozen=True)
class Section:
    """A printed table for one granularity and one BatchNorm mode."""

    granularity: str
    batch_norm: str
    rows: pd.DataFrame  # CSV_COLUMNS and `beside`, our own column to compare with; one row per column and sparsity
    columns: list[str]  # in display order
    published: list[PublishedValues]  # the published ones among them
    differences: pd.DataFrame | None = None  # from the table's baseline, see `paired_differences`

    @property
    def title(self) -> str:
        what = granularity_label(self.granularity)
        return f"{what} pruned, {BATCH_NORMS.get(self.batch_norm, self.batch_norm)}"

    @cached_property
    def unpruned(self) -> pd.DataFrame:
        """The rows for unpruned networks. Empty unless a column begins at a floor."""
        rows = self.rows[is_unpruned(self.rows)]
        return rows if self._added.any() else rows[:0]

    @cached_property
    def swept(self) -> pd.DataFrame:
        """The rows of all columns by sparsity, as in the paper, without the unpruned rows of columns with a floor."""
        return self.rows[~self._added]

    @cached_property
    def _added(self) -> "pd.Series[bool]":
        return added_unpruned(self.rows)

    @property
    def notes(self) -> list[str]:
        """Notes about rows of networks pruned at their floor, published columns and differences."""
        notes = ["unpruned: the whole network, nothing set to zero."] if len(self.unpruned) else []
        low = self.rows[self.rows["sparsity"] < self.rows["floor"]]
        for floor, part in low.groupby("floor"):
            at = f"{percent(float(str(floor)))} %"
            what = granularity_label(self.granularity)
            names = ", ".join(part["column"].unique())
            notes.append(f"{names}: rows below {at} are for the network with {at} of its {what} pruned, its floor.")
        for file in dict.fromkeys(column.published.file for column in self.published):
            same_file = [column for column in self.published if column.published.file == file]
            labels = ", ".join(column.label for column in same_file)
            heads = ", ".join(f"“{column.published.head}”" for column in same_file)
            notes.append(f"{labels}: {same_file[0].published.about}, there {heads} ({file}.csv).")
        if self.differences is not None:
            notes.append(f"Differences: mean over the seeds that both columns have, with {INTERVAL}.")
        return notes


@dataclass(frozen=True)
class Table:
    """The table that `run table` writes."""

    metric: Metric
    split: str
    common: str  # title of what all runs have in common
    sections: list[Section]
    own_columns: list[str]
    notes: list[str]
    x: str = "sparsity"  # horizontal axis of the figure: the sparsity or a cost
    runs: Mapping[str, Sequence[Run]] = field(default_factory=dict)  # own column → its runs, one per seed
    baseline: str | None = None  # the column that differences are from

    @property
    def title(self) -> str:
        return ", ".join(filter(None, [metric_label(self.split, self.metric), self.common]))

    @property
    def rows(self) -> pd.DataFrame:
        """All sections in the long form of the CSV file."""
        columns = [*CSV_COLUMNS, *([] if self.x == "sparsity" else [self.x])]
        return pd.concat([section.rows for section in self.sections], ignore_index=True)[columns]

    @property
    def differences(self) -> pd.DataFrame:
        """The differences of all sections from the baseline, in long form."""
        about = {"split": self.split, "metric": self.metric.name, "baseline": self.baseline}
        frames = [
            section.differences.assign(granularity=section.granularity, batch_norm=section.batch_norm, **about)
            for section in self.sections
            if section.differences is not None
        ]
        return pd.concat(frames, ignore_index=True)[["granularity", "batch_norm", *about, *PAIRED_COLUMNS]]
