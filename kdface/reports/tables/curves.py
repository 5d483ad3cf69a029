"""The rows of a table as curves by test set: ROC, DET, CMC and error versus discard."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np
from matplotlib.figure import Figure

from kdface.errors import UserError
from kdface.reports.curves import DISCARD_GRID, FAR_GRID, Band, Curve, band, curves_of
from kdface.reports.figures import cmc_figure, det_figure, edc_figure, roc_figure
from kdface.reports.tables.definition import Column, Row
from kdface.reports.tables.table import Table
from kdface.runs.folder import RunFolder
from kdface.stored import read_arrays

log = logging.getLogger("kdface")


def curve_figures(table: Table) -> dict[str, Figure]:
    """Figures by name: TEST_roc, TEST_det, TEST_cmc and TEST_edc, in the order of the columns.

    Includes the test sets of the columns for which runs have arrays. Each row is a curve, the mean over its seeds, in a
    band from the lowest to the highest; ROC and DET start at the smallest FAR that its impostor pairs can resolve. If a
    column's test differs by row ("lfw_{test}"), the rows share a figure, "lfw_each".
    """
    figures: dict[str, Figure] = {}
    for (test, kind), rows in _collected(table).items():
        bands = {name: band(list(runs.values())) for name, runs in rows.items()}
        seeded = [name for name, runs in rows.items() if len(runs) > 1]
        grey = [row.key for row in table.rows if row.label == table.definition.baseline and row.key in bands]
        baseline = grey[0] if len(grey) == 1 else None  # each group of rows may have its own
        figures |= {f"{test}_{suffix}": figure for suffix, figure in _drawn(kind, bands, seeded, baseline)}
    return figures


def _collected(table: Table) -> dict[tuple[str, str], dict[str, dict[RunFolder, Curve]]]:
    """(test, kind of curve) -> row -> run -> curve."""
    curves = cache(_curves)  # columns share tests
    found: dict[tuple[str, str], dict[str, dict[RunFolder, Curve]]] = {}
    for place, column in enumerate(table.columns):
        rows = [
            (row, cells[place].runs.values())
            for row, cells in zip(table.rows, table.cells, strict=True)
            if cells[place].runs
        ]
        for number, shared in enumerate(_tests(column, Row(label="", test="each"))):
            tests = [_tests(column, row)[number] for row, _ in rows]
            name = tests[0] if len(set(tests)) == 1 else shared
            for (row, runs), test in zip(rows, tests, strict=True):
                for run in runs:
                    for kind, curve in curves(run, test).items():
                        found.setdefault((name, kind), {}).setdefault(row.key, {})[run] = curve
    return found


def _tests(column: Column, row: Row) -> list[str]:
    return [metric.partition("/")[0] for metric in column.metrics_of(row)]


def _curves(run: RunFolder, test: str) -> dict[str, Curve]:
    """The curves of a run, empty if its arrays cannot be read; without error versus discard if its error is 0."""
    try:
        if (path := run.scores_of(test)) is None:
            return {}
        found = curves_of(read_arrays(path))
    except UserError as error:
        log.warning("left out of the figures: %s", error.problem)
        return {}
    except (KeyError, ValueError, IndexError) as error:
        log.warning("left out of the figures: %s holds no scores: %s", path, error)
        return {}
    return {kind: curve for kind, curve in found.items() if kind != "edc" or np.isfinite(curve).all()}


def _drawn(
    kind: str, bands: Mapping[str, Band], seeded: Sequence[str], baseline: str | None
) -> Iterator[tuple[str, Figure]]:
    """The figures of a kind of curve, with bands for the rows in `seeded`."""
    if kind == "cmc":
        means = {name: curve.mean for name, curve in bands.items()}
        bounds = {name: (bands[name].low, bands[name].high) for name in seeded}
        yield "cmc", cmc_figure(means, bands=bounds, baseline=baseline)
    elif kind == "edc":
        errors = {name: (DISCARD_GRID, curve.mean) for name, curve in bands.items()}
        areas = {name: (DISCARD_GRID, bands[name].low, bands[name].high) for name in seeded}
        yield "edc", edc_figure(errors, bands=areas, limit=float(DISCARD_GRID[-1]), baseline=baseline)
    else:
        inside = {name: np.isfinite(curve.mean) for name, curve in bands.items()}
        far = {name: FAR_GRID[shown] for name, shown in inside.items()}
        tar = {name: Band(*(rates[inside[name]] for rates in curve)) for name, curve in bands.items()}
        accepted = {name: (far[name], curve.mean) for name, curve in tar.items()}
        areas = {name: (far[name], tar[name].low, tar[name].high) for name in seeded}
        yield "roc", roc_figure(accepted, bands=areas, baseline=baseline)
        rejected = {name: (far[name], 1 - curve.mean) for name, curve in tar.items()}
        areas = {name: (far[name], 1 - tar[name].high, 1 - tar[name].low) for name in seeded}
        yield "det", det_figure(rejected, bands=areas, baseline=baseline)
