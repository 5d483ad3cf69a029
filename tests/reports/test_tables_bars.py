"""Bars stand on zero, spreads are drawn, and the files are the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle

from kdface.reports.plotting import BASELINE, save
from kdface.reports.tables.definition import Column, Definition, Row
from kdface.reports.tables.figures import bar_figure, table_figures
from kdface.reports.tables.statistics import Summary
from kdface.reports.tables.table import Cell, Table


def _table(*means: float | None) -> Table:
    rows = tuple(Row(label=f"row {k}", overrides=()) for k in range(len(means)))
    definition = Definition(title="t", baseline="row 0", rows=rows, columns=(Column(label="EER", metric="m"),))
    cells = tuple(
        (Cell(True, {}, None if mean is None else Summary(mean, 0.01, 3), False, None, False, None, {}),)
        for mean in means
    )
    return Table(definition, cells, (), (), ())


def test_bars_are_as_long_as_their_values() -> None:
    table = _table(0.1, 0.3, None)
    axes = bar_figure(table, table.columns[0]).axes[0]
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [(bar.get_x(), round(bar.get_width(), 9)) for bar in bars] == [(0, 10), (0, 30)]
    assert bars[0].get_facecolor() != bars[1].get_facecolor()
    assert axes.get_xlim()[0] == 0
    assert [label.get_text() for label in axes.get_yticklabels()] == ["row 0", "row 1"]


def test_close_values_are_points_on_a_cut_axis() -> None:
    table = _table(0.97, 0.98)
    axes = bar_figure(table, table.columns[0]).axes[0]
    assert not axes.patches
    assert axes.get_xlim()[0] > 90
    points = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert np.concatenate([np.asarray(line.get_xdata(), dtype=float) for line in points]).tolist() == [97, 98]
    assert points[0].get_color() == BASELINE


def test_same_bytes_each_time(tmp_path: Path) -> None:
    table = _table(0.1, 0.3)
    for name in ("a.pdf", "b.pdf"):
        save(bar_figure(table, table.columns[0]), tmp_path / name)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_a_column_without_values_has_no_bars() -> None:
    assert not table_figures(_table(None))
