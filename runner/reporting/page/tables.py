"""The tables on the report page, drawn by Bokeh. A click on a heading sorts by its column."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, DataTable, NumberFormatter, StringFormatter, TableColumn

_ROW, _LETTER = 25, 7.5  # pixels
_ROWS = 16  # maximum number of visible rows


def table(columns: Mapping[str, Sequence[Any]], decimals: Mapping[str, int] | None = None) -> DataTable:
    """Return a sortable table.

    Args:
        columns: the values under each heading, either numbers (NaN for missing ones) or texts.
        decimals: the number of decimals under some headings. Other numeric columns have up to four decimals.
    """
    fields, data = [], {}
    for index, (heading, values) in enumerate(columns.items()):
        numbers = all(isinstance(value, int | float | np.number) for value in values)
        data[f"c{index}"] = np.array(values, dtype=float) if numbers else list(map(str, values))
        whole = numbers and all(float(value).is_integer() for value in values if np.isfinite(value))
        places = (decimals or {}).get(heading, 0 if whole else 4)
        formatted = (
            f"0,0.{'0' * places}" if heading in (decimals or {}) else f"0,0.[{'0' * places}]" if places else "0,0"
        )
        formatter = (
            NumberFormatter(format=formatted, nan_format="–", text_align="right") if numbers else StringFormatter()
        )
        longest = max([len(heading) + 2, *(len(f"{v:,.{places}f}") if numbers else len(str(v)) for v in values)])
        # Headings are interpreted as HTML.
        fields.append(
            TableColumn(
                field=f"c{index}",
                title=escape(heading),
                formatter=formatter,
                width=int(min(420, 20 + _LETTER * longest)),
            )
        )
    rows = len(next(iter(data.values()), []))
    return DataTable(
        source=ColumnDataSource(data),
        columns=fields,
        index_position=None,
        reorderable=False,
        selectable=False,
        fit_columns=False,
        autosize_mode="none",
        row_height=_ROW,
        sizing_mode="stretch_width",
        height=_ROW * (min(rows, _ROWS) + 1) + 22,
    )
