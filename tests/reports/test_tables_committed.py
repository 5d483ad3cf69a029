"""The tables in experiments/ are what today's renderers make of the values in their CSV files."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdface.csv_files import read_rows
from kdface.reports.tables import Table, read_definition, tabulate, text
from kdface.reports.tables.collect import Collected, Measured
from kdface.reports.tables.render_csv import csv_text
from kdface.reports.tables.render_html import html
from kdface.reports.tables.render_latex import latex
from kdface.reports.tables.render_markdown import markdown
from kdface.runs.folder import RunFolder

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
WRITTEN = [path for path in sorted(EXPERIMENTS.glob("*/*.csv")) if path.with_suffix(".yaml").is_file()]


def _read(path: Path) -> Table:
    """A table with the values of its CSV; all values of a cell have their runs, in the order of the seeds."""
    definition = read_definition(path.with_suffix(".yaml"))
    rows = {(row.group, row.label): r for r, row in enumerate(definition.rows)}
    columns = {column.heading: c for c, column in enumerate(definition.columns)}
    found = Collected()
    (_, header), *lines = read_rows(path)
    for cell in (dict(zip(header, line, strict=True)) for _, line in lines):
        seeds, values, runs = (cell[key].split() for key in ("seeds", "values", "runs"))
        if seeds:
            found.values[rows[cell["group"], cell["row"]], columns[cell["column"]]] = {
                int(seed): Measured(float(value), RunFolder(Path(run)))
                for seed, value, run in zip(seeds, values, runs, strict=True)
            }
    return tabulate(definition, found, path.parent)


def test_there_are_committed_tables() -> None:
    assert WRITTEN


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_committed_tables_are_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "run_name", lambda root: root.as_posix())
    table = _read(path)
    for suffix, render in {".md": markdown, ".tex": latex, ".csv": csv_text, ".html": html}.items():
        assert path.with_suffix(suffix).read_text(encoding="utf-8") == render(table), suffix
