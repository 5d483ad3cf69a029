"""Error versus discard of a table's rows, for the test sets that were graded by quality."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kdface.reports.quality_figures import edc_figure
from kdface.reports.tables.table import Table
from kdface.runs.folder import RunFolder

_LIMIT = 0.3  # discard fraction drawn
_GRID = np.linspace(0, _LIMIT, 301)


def edc_figures(table: Table) -> dict[str, Figure]:
    """By test set, a curve for each row: the mean over its seeds at each of 301 discard fractions up to 0.3.

    Test sets come in the order of the columns. Rows without such a curve, and test sets without any, are left out; so
    is a run without an error to begin with.
    """
    found: dict[str, dict[str, dict[RunFolder, NDArray[np.float64]]]] = {}
    for row, cells in zip(table.rows, table.cells, strict=True):
        name = f"{row.label}, {row.group}" if row.group else row.label
        for column, cell in zip(table.columns, cells, strict=True):
            for test in dict.fromkeys(metric.partition("/")[0] for metric in column.metrics_of(row)):
                for run in cell.runs.values():
                    curve = _curve(run, test)
                    if curve is not None:
                        found.setdefault(test, {}).setdefault(name, {})[run] = curve
    figures = {}
    for test, rows in found.items():
        curves = {name: (_GRID, np.mean(list(runs.values()), axis=0)) for name, runs in rows.items()}
        figures[test] = edc_figure(curves, limit=_LIMIT)
    return figures


def _curve(run: RunFolder, test: str) -> NDArray[np.float64] | None:
    """The error at each fraction of the grid: that of the step which it lies on."""
    path = run.scores / f"{test}.npz"
    if not path.is_file():
        return None
    with np.load(path) as scores:
        if "discarded" not in scores or not np.isfinite(scores["errors"]).all():
            return None
        place = np.searchsorted(scores["discarded"], _GRID, side="right") - 1
        return np.asarray(scores["errors"][place], dtype=np.float64)
