"""Write a table as CSV, one line per cell with full details, and read the values back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kdface.csv_files import csv_text as written
from kdface.csv_files import read_rows
from kdface.errors import UserError
from kdface.reports.tables import text
from kdface.reports.tables.table import Table

Values = Mapping[tuple[str, str], Mapping[int, float]]  # ("group row", column) -> seed -> value

_FIELDS = (
    "group", "row", "column", "metric", "mean", "spread", "n", "seeds", "values", "difference", "low", "high", "p",
    "p_corrected", "wins", "published", "published_spread", "gap", "source", "provenance", "runs",
)  # fmt: skip


def csv_text(table: Table) -> str:
    """The CSV text. Numbers are fractions in full precision; lists are separated by spaces."""
    rows: list[Sequence[object]] = [_FIELDS]
    for row, cells in zip(table.rows, table.cells, strict=True):
        for cell, column in zip(cells, table.columns, strict=True):
            summary, test, published = cell.summary, cell.comparison, cell.published
            seeds = sorted(cell.values)
            rows.append(
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
    return written(rows)


def read_values(path: Path) -> Values:
    """The values of each non-empty cell, by seed.

    Raises:
        UserError: the file cannot be read, or was not written by `csv_text`.
    """
    (_, header), *found = read_rows(path) or [(0, [])]
    try:
        rows = [dict(zip(header, row, strict=True)) for _, row in found]
        return {
            (f"{row['group']} {row['row']}".strip(), row["column"]): dict(
                zip(map(int, row["seeds"].split()), map(float, row["values"].split()), strict=True)
            )
            for row in rows
            if row["seeds"]
        }
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is not a CSV that kdface table has written: {error!r}.") from None
