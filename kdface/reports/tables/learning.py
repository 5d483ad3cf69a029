"""A column over training steps: its mean over seeds, and the gain of each row over the baseline."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdface.errors import UserError
from kdface.reports.figures import BASELINE, COLUMN, INK, draw_curves, new_figure, style
from kdface.reports.tables.definition import Column
from kdface.reports.tables.statistics import compare
from kdface.reports.tables.table import Table
from kdface.runs.folder import RunFolder
from kdface.runs.records import read, scalars

log = logging.getLogger("kdface")
_LINE = 26  # letters along an axis half as high as the figure

Steps = Mapping[int, Mapping[int, float]]  # step -> seed -> value
Points = Iterable[tuple[int, float, float | None, float | None]]  # step, mean, lower and upper bound


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
            figures[f"{metric.replace('/', '_')}_steps"] = _figure(found, column, table.definition.baseline)
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
def _figure(rows: Mapping[str, Steps], column: Column, baseline: str) -> Figure:
    percent = column.unit == "percent"
    compared = [name for name in rows if name != baseline] if baseline in rows else []
    figure = new_figure(COLUMN, 4.2 if compared else 2.4)
    top, *below = figure.subplots(2 if compared else 1, 1, sharex=True, squeeze=False)[:, 0]
    _draw(top, column, {name: _means(steps) for name, steps in rows.items()}, baseline if baseline in rows else None)
    top.set(ylabel=fill(f"{column.heading} (%)" if percent else column.heading, _LINE))
    for axes in below:
        axes.axhline(0, color=BASELINE, linewidth=1.2)
        _draw(axes, column, {name: _gains(rows[name], rows[baseline]) for name in compared})
        axes.set(ylabel=fill(f"gain over {baseline}{' (points)' if percent else ''}", _LINE))
    last = below[-1] if below else top
    last.set(xlabel="Training step")
    last.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.legend(*top.get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False, labelcolor=INK)
    return figure


def _draw(axes: Axes, column: Column, rows: Mapping[str, Points], baseline: str | None = None) -> None:
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
