"""A column of a table as a figure for a paper column: bars with error bars."""

from __future__ import annotations

from textwrap import fill
from typing import Any

from matplotlib.figure import Figure

from kdface.errors import UserError
from kdface.reports.figures import ALIKE, BASELINE, COLUMN, INK, PALETTE, new_figure, style
from kdface.reports.tables.definition import Column
from kdface.reports.tables.table import Table

_LINE = 26  # letters below and next to the axis, each about half as wide as the figure


@style()
def bar_figure(table: Table, column: Column) -> Figure:
    """One bar per row with runs, from zero, with its spread. The baseline is grey; diamonds are published values.

    If all values are close together, points on a truncated axis are drawn instead, since bars that do not start at zero
    are misleading.

    Raises:
        UserError: no row has a value in this column.
    """
    place = table.columns.index(column)
    rows = [(row, cells[place]) for row, cells in zip(table.rows, table.cells, strict=True)]
    found = [(row, cell, cell.summary) for row, cell in rows if cell.summary]
    if not found:
        raise UserError(f"there is nothing to plot in column {column.heading!r}: no run has a value.")
    means = [summary.mean for *_, summary in found]
    bars = min(means) < ALIKE * max(means)
    figure = new_figure(COLUMN, 0.5 + 0.24 * len(found))
    axes = figure.add_subplot()
    heights = range(len(found))[::-1]
    for y, (row, cell, summary) in zip(heights, found, strict=True):
        color = BASELINE if row.label == table.definition.baseline else PALETTE[0]
        if bars:
            axes.barh(y, summary.mean * column.scale, height=0.62, color=color)
        axes.errorbar(
            summary.mean * column.scale,
            y,
            xerr=(summary.spread or 0) * column.scale or None,
            color=INK if bars else color,
            linewidth=0.9,
            capsize=2,
            marker="" if bars else "o",
            markersize=3.5,
        )
        if cell.published is not None:
            look: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": PALETTE[1], "markeredgewidth": 0.9}
            axes.plot(cell.published.value * column.scale, y, marker="D", markersize=3.5, **look)
    names = [fill(row.key, _LINE, break_on_hyphens=False) for row, *_ in found]
    axes.set_yticks(list(heights), names, linespacing=1.0)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(found) - 0.4)
    if bars:
        axes.set_xlim(left=0)
    label = f"{column.heading}\N{NO-BREAK SPACE}(%)" if column.unit == "percent" else column.heading
    axes.set_xlabel(fill(label, _LINE))
    axes.grid(axis="y", visible=False)
    return figure
