"""A table as CSV, one line a cell, with everything that is known about it."""

from __future__ import annotations

import csv
import io

from kdface.reports.tables import text
from kdface.reports.tables.table import Table

_FIELDS = (
    "group", "row", "column", "metric", "mean", "spread", "n", "seeds", "values", "difference", "low", "high", "p",
    "p_corrected", "wins", "published", "published_spread", "gap", "source", "provenance", "runs",
)  # fmt: skip


def csv_text(table: Table) -> str:
    """Numbers are fractions in full precision; lists are separated by blanks."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_FIELDS)
    for row, cells in zip(table.rows, table.cells, strict=True):
        for cell, column in zip(cells, table.columns, strict=True):
            summary, test, published = cell.summary, cell.comparison, cell.published
            seeds = sorted(cell.values)
            writer.writerow(
                [
                    row.group,
                    row.label,
                    column.heading,
                    " ".join(column.metrics_of(row)) if cell.expected else "",
                    *((summary.mean, summary.spread, summary.n) if summary else ("", "", 0)),
                    " ".join(map(str, seeds)),
                    " ".join(repr(cell.values[seed]) for seed in seeds),
                    *((test.difference, test.low, test.high, test.p, test.adjusted) if test else [""] * 5),
                    "yes" if cell.wins else "no" if test and test.adjusted is not None else "",
                    *((published.value, published.spread) if published else ("", "")),
                    "" if cell.gap is None else cell.gap,
                    *((published.source, published.provenance) if published else ("", "")),
                    " ".join(text.run_name(run.root) for run in cell.runs.values()),
                ]
            )
    return buffer.getvalue()
