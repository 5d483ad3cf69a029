"""Figures of identification."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdface.errors import UserError
from kdface.reports.figures import Rates, add_legend, check_bands, check_runs, draw_bands, draw_lines, new_axes, style


def cmc_figure(
    runs: Mapping[str, Rates],
    *,
    bands: Mapping[str, tuple[Rates, Rates]] | None = None,
    baseline: str | None = None,
) -> Figure:
    """Cumulative match characteristic: identification rate over rank. Runs are listed by their rank-1 rate.

    Args:
        runs: run -> rates at rank 1, 2, ...: non-decreasing fractions.
        bands: run -> (lowest, highest) at each rank for some runs, drawn pale.
        baseline: the run to draw in grey.
    """
    check_runs(runs, baseline)
    check_bands(runs, bands or {})
    for name, rates in runs.items():
        if not len(rates) or not ((rates >= 0) & (rates <= 1)).all() or (np.diff(rates) < 0).any():
            raise UserError(f"{name!r} is not a CMC curve.", expected="non-decreasing fractions, 0 to 1")
    with style():
        figure, axes = new_axes(2.6)
        shown = {name: (np.arange(1.0, len(rates) + 1), rates) for name, rates in runs.items()}
        lines = draw_lines(axes, shown, baseline, rank=lambda _, rates: -float(rates[0]))
        draw_bands(axes, lines, {name: (shown[name][0], low, high) for name, (low, high) in (bands or {}).items()})
        last = max(map(len, runs.values()))
        axes.set(xlim=(0.85, max(last, 1.15)), xlabel="Rank", ylabel="Identification rate")
        axes.set_ylim(top=min(1.01, axes.get_ylim()[1]))
        ticks = MaxNLocator(5, steps=[1, 2, 5, 10], integer=True).tick_values(1, last)
        axes.set_xticks([1, *(tick for tick in ticks if 1 < tick <= last)])
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        add_legend(axes, "lower right")
    return figure
