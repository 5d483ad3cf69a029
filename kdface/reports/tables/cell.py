"""Select a table cell by name: ROW/COLUMN, with the labels of the definition."""

from __future__ import annotations

from pathlib import Path

from kdface.errors import UserError, nearest
from kdface.reports.tables.definition import Definition


def single(definition: Definition, name: str, path: Path) -> Definition:
    """The definition of a table with only this cell.

    A row or column in a group is named by both, as in "masked accuracy", or by its label if that is unique.

    Args:
        definition: the whole table.
        name: ROW/COLUMN.
        path: path of the definition, for the error message.

    Raises:
        UserError: no cell with runs has this name.
    """
    cells = [(row, column) for row in definition.rows if row.overrides is not None for column in definition.columns]
    cells = [(row, column) for row, column in cells if column.metric]
    whole = {f"{f'{row.group} {row.label}'.strip()}/{column.heading}": (row, column) for row, column in cells}
    brief: dict[str, list[str]] = {}
    for long, (row, column) in whole.items():
        rest = long[: -len(column.heading) - 1]
        for alias in {f"{row.label}/{column.heading}", f"{rest}/{column.label}", f"{row.label}/{column.label}"}:
            brief.setdefault(alias, []).append(long)
    found = name if name in whole else brief[name][0] if len(brief.get(name, [])) == 1 else None
    if found is None:
        near = nearest(name, whole) or next(iter(whole), "")
        several = brief.get(name, [])
        raise UserError(
            f"{path}: {f'{len(several)} cells are' if several else 'no cell is'} called {name!r}.",
            expected="ROW/COLUMN, with the labels of the table, for a row with runs",
            nearest=f"{path}:{several[0] if several else near}" if several or near else "",
        )
    row, column = whole[found]
    return definition.model_copy(update={"rows": (row,), "columns": (column,), "baseline": "", "published": None})
