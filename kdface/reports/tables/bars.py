"""A column of a table as a figure for a paper column: bars with error bars."""

from __future__ import annotations

from textwrap import fill

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kdface.errors import UserError
from kdface.reports.figures import BASELINE, COLUMN, PALETTE, style
from kdface.reports.tables.definition import Column
from kdface.reports.tables.table import Table

_LINE = 26  # letters below and next to the axis, each about half as wide as the figure
_CLOSE = 0.8  # lowest / highest value above which bars from zero look alike


def bar_figure(table: Table, column: Column) -> Figure:
    """One bar per row with runs, from zero, with its spread. The baseline is grey; diamonds are published values.

    If all values are close together, points on a truncated axis are drawn instead, since bars that do not start at zero
    are misleading.

    Raises:
        UserError: no row has a value in this column.
    """
    place = table.columns.index(column)
    found = [(row, cells[place]) for row, cells in zip(table.rows, table.cells, strict=True) if cells[place].summary]
    if not found:
        raise UserError(f"there is nothing to plot in column {column.heading!r}: no run has a value.")
    values = [cell.summary.mean * column.scale for _, cell in found if cell.summary]
    spreads = [(cell.summary.spread or 0.0) * column.scale for _, cell in found if cell.summary]
    colors = [BASELINE if row.label == table.definition.baseline else PALETTE[0] for row, _ in found]
    heights = list(range(len(found)))[::-1]
    with style():
        figure = Figure(figsize=(COLUMN, 0.5 + 0.24 * len(found)), dpi=300, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        bars = min(values) < _CLOSE * max(values)
        if bars:
            axes.barh(heights, values, height=0.62, color=colors)
        for y, value, spread, color in zip(heights, values, spreads, colors, strict=True):
            line = "#333333" if bars else color
            axes.errorbar(
                value,
                y,
                xerr=spread or None,
                color=line,
                linewidth=0.9,
                capsize=2,
                marker="" if bars else "o",
                markersize=3.5,
            )
        for y, (_, cell) in zip(heights, found, strict=True):
            if cell.published is not None:
                x = cell.published.value * column.scale
                axes.plot(
                    x,
                    y,
                    marker="D",
                    markersize=3.5,
                    markerfacecolor="white",
                    markeredgecolor=PALETTE[1],
                    markeredgewidth=0.9,
                )
        names = [row.key for row, _ in found]
        axes.set_yticks(heights, [fill(name, _LINE, break_on_hyphens=False) for name in names], linespacing=1.0)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.6, len(found) - 0.4)
        if bars:
            axes.set_xlim(left=0)
        label = f"{column.heading}\N{NO-BREAK SPACE}(%)" if column.unit == "percent" else column.heading
        axes.set_xlabel(fill(label, _LINE))
        axes.grid(axis="y", visible=False)
    return figure
