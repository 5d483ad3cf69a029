"""The figures of a table: test sets as curves, columns as bars, and columns over training steps."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdface.errors import UserError
from kdface.reports import figures as draw
from kdface.reports.curves import DISCARD_GRID, FAR_GRID, Band, Curve, band, curves_of
from kdface.reports.plotting import ALIKE, BASELINE, COLUMN, INK, PALETTE, draw_curves, new_figure, style
from kdface.reports.tables.definition import Column, Row
from kdface.reports.tables.statistics import compare
from kdface.reports.tables.table import Table
from kdface.runs.folder import RunFolder
from kdface.runs.records import read, scalars
from kdface.stored import read_arrays

log = logging.getLogger("kdface")
_LINE = 26  # letters along an axis about half as long as the figure is wide

Steps = Mapping[int, Mapping[int, float]]  # step -> seed -> value
Points = Iterable[tuple[int, float, float | None, float | None]]  # step, mean, lower and upper bound


def table_figures(table: Table) -> dict[str, Figure]:
    """All figures by name: those of `curve_figures` and `learning_figures`, and bars of each column with values."""
    figures = curve_figures(table) | learning_figures(table)
    for place, column in enumerate(table.columns):
        if any(cells[place].summary for cells in table.cells):
            figures["_".join(re.findall(r"\w+", column.heading.lower()))] = bar_figure(table, column)
    return figures


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
        yield "cmc", draw.cmc_figure(means, bands=bounds, baseline=baseline)
    elif kind == "edc":
        errors = {name: (DISCARD_GRID, curve.mean) for name, curve in bands.items()}
        areas = {name: (DISCARD_GRID, bands[name].low, bands[name].high) for name in seeded}
        yield "edc", draw.edc_figure(errors, bands=areas, limit=float(DISCARD_GRID[-1]), baseline=baseline)
    else:
        inside = {name: np.isfinite(curve.mean) for name, curve in bands.items()}
        far = {name: FAR_GRID[shown] for name, shown in inside.items()}
        tar = {name: Band(*(rates[inside[name]] for rates in curve)) for name, curve in bands.items()}
        accepted = {name: (far[name], curve.mean) for name, curve in tar.items()}
        areas = {name: (far[name], tar[name].low, tar[name].high) for name in seeded}
        yield "roc", draw.roc_figure(accepted, bands=areas, baseline=baseline)
        rejected = {name: (far[name], 1 - curve.mean) for name, curve in tar.items()}
        areas = {name: (far[name], 1 - tar[name].high, 1 - tar[name].low) for name in seeded}
        yield "det", draw.det_figure(rejected, bands=areas, baseline=baseline)


@style()
def bar_figure(table: Table, column: Column) -> Figure:
    """One bar per row with runs, from zero, with its spread. The baseline is grey; diamonds are published values.

    If all values are close together, points on a truncated axis are drawn instead, since bars that do not start at zero
    are misleading.
    """
    place = table.columns.index(column)
    rows = [(row, cells[place]) for row, cells in zip(table.rows, table.cells, strict=True)]
    found = [(row, cell, cell.summary) for row, cell in rows if cell.summary]
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


def learning_figures(table: Table) -> dict[str, Figure]:
    """COLUMN_steps for each column with `over_steps`, if its metric was measured during training.

    The upper plot shows the mean over seeds with a value at a step, in a band from the lowest to the highest; the lower
    one, if there is a baseline, the difference from it, paired by seed, with its 95 % t-interval.
    """
    figures = {}
    for place, column in enumerate(table.columns):
        if not column.over_steps:
            continue
        found = {
            row.key: curve
            for row, cells in zip(table.rows, table.cells, strict=True)
            if (curve := _over_steps(cells[place].runs, column.metrics_of(row)[0]))
        }
        if found:
            metric = column.metrics_of(table.rows[0])[0]
            figures[f"{metric.replace('/', '_')}_steps"] = _learning_figure(found, column, table.definition.baseline)
    return figures


def _over_steps(runs: Mapping[int, RunFolder], metric: str) -> Steps:
    found: dict[int, dict[int, float]] = {}
    for seed, run in runs.items():
        try:
            records = list(read(run.metrics))
        except UserError as error:
            log.warning("left out of the figures: %s", error.problem)
            continue
        for record in records:
            if record["kind"] == "evaluation" and (value := scalars(record).get(metric)) is not None:
                found.setdefault(record["step"], {})[seed] = value
    return dict(sorted(found.items()))


@style()
def _learning_figure(rows: Mapping[str, Steps], column: Column, baseline: str) -> Figure:
    percent = column.unit == "percent"
    compared = [name for name in rows if name != baseline] if baseline in rows else []
    figure = new_figure(COLUMN, 4.2 if compared else 2.4)
    top, *below = figure.subplots(2 if compared else 1, 1, sharex=True, squeeze=False)[:, 0]
    means = {name: _means(steps) for name, steps in rows.items()}
    _draw_steps(top, column, means, baseline if baseline in rows else None)
    top.set(ylabel=fill(f"{column.heading} (%)" if percent else column.heading, _LINE))
    for axes in below:
        axes.axhline(0, color=BASELINE, linewidth=1.2)
        _draw_steps(axes, column, {name: _gains(rows[name], rows[baseline]) for name in compared})
        axes.set(ylabel=fill(f"gain over {baseline}{' (points)' if percent else ''}", _LINE))
    last = below[-1] if below else top
    last.set(xlabel="Training step")
    last.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.legend(*top.get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False, labelcolor=INK)
    return figure


def _draw_steps(axes: Axes, column: Column, rows: Mapping[str, Points], baseline: str | None = None) -> None:
    curves, bands = {}, {}
    for name, points in rows.items():
        steps, *values = np.array(list(points), dtype=np.float64).reshape(-1, 4).T  # unknown bounds become NaN
        mean, low, high = (column.scale * value for value in values)
        curves[name], bands[name] = (steps, mean), (steps, low, high)
    draw_curves(axes, curves, bands, baseline, marker=".", markersize=3)


def _means(steps: Steps) -> Points:
    for step, seeds in steps.items():
        yield step, float(np.mean(list(seeds.values()))), min(seeds.values()), max(seeds.values())


def _gains(row: Steps, baseline: Steps) -> Points:
    """The paired comparison at each common step."""
    for step in row:
        if step in baseline and (gain := compare(row[step], baseline[step])) is not None:
            yield step, gain.difference, gain.low, gain.high
