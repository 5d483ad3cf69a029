"""A table as CSV, one line a cell, with everything that is known about it; and the values read back."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from kdface.errors import UserError
from kdface.reports.tables import text
from kdface.reports.tables.table import Table
from kdface.stored import read_bytes

Values = Mapping[tuple[str, str], Mapping[int, float]]  # ("group row", column) -> seed -> value

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


def read_values(path: Path) -> Values:
    """The values of each cell that has any, by seed.

    Raises:
        UserError: the file cannot be read, or `csv_text` has not written it.
    """
    try:
        content = read_bytes(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    try:
        rows = csv.DictReader(io.StringIO(content.decode()))
        return {
            (f"{row['group']} {row['row']}".strip(), row["column"]): dict(
                zip(map(int, row["seeds"].split()), map(float, row["values"].split()), strict=True)
            )
            for row in rows
            if row["seeds"]
        }
    except (KeyError, ValueError, AttributeError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV that kdface table has written: {error!r}.") from None
