"""A column over training steps: its mean over seeds, and the gain of each row over the baseline."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdface.errors import UserError
from kdface.reports.figures import BASELINE, COLUMN, DASHES, INK, PALETTE, style
from kdface.reports.tables.definition import Column
from kdface.reports.tables.statistics import Comparison, compare
from kdface.reports.tables.table import Table
from kdface.runs.folder import RunFolder
from kdface.runs.records import read, scalars

log = logging.getLogger("kdface")
_LINE = 26  # letters along an axis half as high as the figure

Steps = Mapping[int, Mapping[int, float]]  # step -> seed -> value


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


def _figure(rows: Mapping[str, Steps], column: Column, baseline: str) -> Figure:
    looks = {name: (BASELINE, "solid") for name in rows if name == baseline}
    others = [name for name in rows if name != baseline]
    looks |= {name: (PALETTE[k % len(PALETTE)], DASHES[k % len(DASHES)]) for k, name in enumerate(others)}
    compared = others if baseline in rows else []
    with style():
        figure = Figure(figsize=(COLUMN, 4.2 if compared else 2.4), dpi=300, layout="constrained")
        FigureCanvasAgg(figure)
        top, *below = figure.subplots(2 if compared else 1, 1, sharex=True, squeeze=False)[:, 0]
        for name, curve in rows.items():
            values = [list(by_seed.values()) for by_seed in curve.values()]
            middle = [float(np.mean(seeds)) for seeds in values]
            _draw(top, looks[name], name, curve, middle, [min(v) for v in values], [max(v) for v in values], column)
        top.set(ylabel=_label(f"{column.heading} (%)" if column.unit == "percent" else column.heading))
        for axes in below:
            axes.axhline(0, color=BASELINE, linewidth=1.2)
            for name in compared:
                gains = dict(_gains(rows[name], rows[baseline]))
                middle = [gain.difference for gain in gains.values()]
                low = [np.nan if gain.low is None else gain.low for gain in gains.values()]
                high = [np.nan if gain.high is None else gain.high for gain in gains.values()]
                _draw(axes, looks[name], "", gains, middle, low, high, column)
            axes.set(ylabel=_label(f"gain over {baseline}{' (points)' if column.unit == 'percent' else ''}"))
        last = below[-1] if below else top
        last.set(xlabel="Training step")
        last.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        figure.legend(loc="outside upper left", ncols=2, frameon=False, labelcolor=INK)
    return figure


def _draw(
    axes: Axes,
    look: tuple[str, object],
    name: str,
    steps: Mapping[int, object],
    middle: list[float],
    low: list[float],
    high: list[float],
    column: Column,
) -> None:
    x, scale = list(steps), column.scale
    color, dash = look
    axes.plot(x, np.multiply(scale, middle), color=color, linestyle=dash, marker=".", markersize=3, label=name or None)
    axes.fill_between(x, np.multiply(scale, low), np.multiply(scale, high), color=color, alpha=0.15, linewidth=0)


def _gains(row: Steps, baseline: Steps) -> Iterator[tuple[int, Comparison]]:
    """The paired comparison at each common step."""
    for step in row:
        if step in baseline and (gain := compare(row[step], baseline[step])) is not None:
            yield step, gain


def _label(text: str) -> str:
    return fill(text, _LINE)
