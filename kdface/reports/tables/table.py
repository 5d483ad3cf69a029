"""A computed table: for each cell our value, its test against the baseline, and the published number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path
from string import ascii_lowercase

from kdface.reports.tables.collect import Collected, Missing
from kdface.reports.tables.definition import Column, Definition, Row
from kdface.reports.tables.published import Published, PublishedNumbers
from kdface.reports.tables.statistics import Comparison, Summary, compare, holm, summarise
from kdface.runs.folder import RunFolder


@dataclass(frozen=True)
class Cell:
    """One row in one column; all numbers are fractions.

    Attributes:
        expected: whether a run could fill it.
        values: seed -> value.
        summary: summary over the seeds; None if there is no value.
        unresolved: there are runs, but the test set is too small for this metric.
        comparison: comparison with the baseline on the same seeds; None for the baseline itself.
        wins: significantly better than the baseline.
        published: the published number.
        runs: seed -> run folder.
    """

    expected: bool
    values: Mapping[int, float]
    summary: Summary | None
    unresolved: bool
    comparison: Comparison | None
    wins: bool
    published: Published | None
    runs: Mapping[int, RunFolder]

    @property
    def gap(self) -> float | None:
        """Our value minus the published one."""
        return None if self.summary is None or self.published is None else self.summary.mean - self.published.value


@dataclass(frozen=True)
class Contrast:
    """The difference of two rows of the table in one column."""

    row: Row
    other: Row
    column: Column
    comparison: Comparison


@dataclass(frozen=True)
class Table:
    """Attributes:
    cells: [row][column].
    contrasts: the contrasts of the definition with values.
    missing: runs and evaluations that are missing.
    notes: sources of the published numbers, each with the mark of its cells; "" for the paper's own numbers if that is
        the only such source.
    """

    definition: Definition
    cells: tuple[tuple[Cell, ...], ...]
    contrasts: tuple[Contrast, ...]
    missing: tuple[Missing, ...]
    notes: tuple[tuple[str, str], ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """As defined."""
        return self.definition.rows

    @property
    def columns(self) -> tuple[Column, ...]:
        """As defined."""
        return self.definition.columns

    @property
    def measured(self) -> bool:
        """Whether runs could fill any cell; a table with only published numbers shows them in full size."""
        return any(cell.expected for row in self.cells for cell in row)

    def mark(self, published: Published) -> str:
        """The mark of a published number's source, as in `notes`."""
        text = _note(published)
        return next(mark for mark, note in self.notes if note == text)


def tabulate(definition: Definition, collected: Collected, folder: Path) -> Table:
    """Combine the values of runs with the published numbers, which are stored in `folder`."""
    numbers = PublishedNumbers(folder / definition.published.file) if definition.published else None
    cells = [
        [_cell(definition, collected, numbers, r, c) for c in range(len(definition.columns))]
        for r in range(len(definition.rows))
    ]
    for c, column in enumerate(definition.columns):
        _compare_column(definition, column, [row[c] for row in cells], c, cells)
    texts: dict[str, bool] = {}
    for row in cells:
        for cell in row:
            if cell.published is not None:
                texts.setdefault(_note(cell.published), cell.published.primary)
    marks = _marks()
    alone = sum(texts.values()) == 1
    notes = [("" if primary and alone else next(marks), text) for text, primary in texts.items()]
    contrasts = _contrasts(definition, cells)
    return Table(definition, tuple(map(tuple, cells)), tuple(contrasts), tuple(collected.missing), tuple(notes))


def _cell(definition: Definition, collected: Collected, numbers: PublishedNumbers | None, r: int, c: int) -> Cell:
    row, column = definition.rows[r], definition.columns[c]
    measured = collected.values.get((r, c), {})
    values = {seed: cell.value for seed, cell in measured.items() if cell.value is not None}
    published = None
    if numbers is not None and definition.published is not None and row.published and column.published:
        published = numbers.find({**definition.published.where, **column.published, **row.published})
    return Cell(
        expected=bool(column.metric) and row.overrides is not None,
        values=values,
        summary=summarise([values[seed] for seed in sorted(values)], definition.spread) if values else None,
        unresolved=bool(measured) and len(values) < len(measured),
        comparison=None,
        wins=False,
        published=published,
        runs={seed: cell.run for seed, cell in sorted(measured.items())},
    )


def _compare_column(
    definition: Definition, column: Column, cells: list[Cell], place: int, into: list[list[Cell]]
) -> None:
    """Test each row against its baseline, correct over the rows of the column, and mark significant improvements."""
    found: dict[int, Comparison] = {}
    for r, row in enumerate(definition.rows):
        base = definition.baseline_of(row)
        if base is not None and (comparison := compare(cells[r].values, cells[base].values)) is not None:
            found[r] = comparison
    tested = [r for r, comparison in found.items() if comparison.p is not None]
    adjusted = dict(zip(tested, holm([found[r].p or 0.0 for r in tested]), strict=True))
    for r, comparison in found.items():
        comparison = replace(comparison, adjusted=adjusted.get(r))
        sign = 1 if column.better == "higher" else -1
        significant = comparison.adjusted is not None and comparison.adjusted < definition.significance
        into[r][place] = replace(cells[r], comparison=comparison, wins=significant and sign * comparison.difference > 0)


def _contrasts(definition: Definition, cells: list[list[Cell]]) -> Iterator[Contrast]:
    for r, other in definition.contrasted():
        for c, column in enumerate(definition.columns):
            if (comparison := compare(cells[r][c].values, cells[other][c].values)) is not None:
                yield Contrast(definition.rows[r], definition.rows[other], column, comparison)


def _marks() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..."""
    for length in count(1):
        yield from ("".join(letters) for letters in product(ascii_lowercase, repeat=length))


def _note(published: Published) -> str:
    how = "" if published.primary else f" ({published.provenance})"
    return f"{published.source}{how}"
