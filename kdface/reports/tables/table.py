"""A computed table: for each cell our value, its test against the baseline, and the published number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
        return next(mark for mark, note in self.notes if note == published.note)


def tabulate(definition: Definition, collected: Collected, folder: Path) -> Table:
    """Combine the values of runs with the published numbers, which are stored in `folder`."""
    numbers = PublishedNumbers(folder / definition.published.file) if definition.published else None
    columns = [
        _compared(
            definition, column, [_cell(definition, collected, numbers, r, c) for r in range(len(definition.rows))]
        )
        for c, column in enumerate(definition.columns)
    ]
    cells = tuple(zip(*columns, strict=True))
    primary = {cell.published.note: cell.published.primary for row in cells for cell in row if cell.published}
    marks = _marks()
    alone = sum(primary.values()) == 1
    return Table(
        definition,
        cells,
        tuple(_contrasts(definition, cells)),
        tuple(collected.missing),
        notes=tuple(("" if own and alone else next(marks), note) for note, own in primary.items()),
    )


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


def _compared(definition: Definition, column: Column, cells: list[Cell]) -> list[Cell]:
    """Test each row against its baseline, correct over the rows of the column, and mark significant improvements."""
    baselines = {r: definition.baseline_of(row) for r, row in enumerate(definition.rows)}
    found = {
        r: comparison
        for r, base in baselines.items()
        if base is not None and (comparison := compare(cells[r].values, cells[base].values)) is not None
    }
    p_values = {r: comparison.p for r, comparison in found.items() if comparison.p is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    sign = 1 if column.better == "higher" else -1
    for r, comparison in found.items():
        p = adjusted.get(r)
        wins = p is not None and p < definition.significance and sign * comparison.difference > 0
        cells[r] = replace(cells[r], comparison=replace(comparison, adjusted=p), wins=wins)
    return cells


def _contrasts(definition: Definition, cells: Sequence[Sequence[Cell]]) -> Iterator[Contrast]:
    for r, other in definition.contrasted():
        for c, column in enumerate(definition.columns):
            if (comparison := compare(cells[r][c].values, cells[other][c].values)) is not None:
                yield Contrast(definition.rows[r], definition.rows[other], column, comparison)


def _marks() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..."""
    for length in count(1):
        yield from ("".join(letters) for letters in product(ascii_lowercase, repeat=length))
