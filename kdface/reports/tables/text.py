"""The texts shared by all formats of a table, before formatting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdface.reports.tables.definition import Column, Row
from kdface.reports.tables.statistics import Comparison
from kdface.reports.tables.table import Cell as Values
from kdface.reports.tables.table import Table
from kdface.runs.folder import RunFolder

EMPTY = "—"
MINUS = "\N{MINUS SIGN}"
MISSING = "Missing results, with the commands that compute them:"


def number(value: float, column: Column, *, signed: bool = False) -> str:
    """A fraction in the column's unit, with a typographic minus."""
    text = f"{value * column.scale:{'+' if signed else ''}.{column.digits}f}"
    if float(text) == 0 and text.startswith("-"):  # no minus sign for a rounded zero
        text = ("+" if signed else "") + text[1:]
    return text.replace("-", MINUS)


@dataclass(frozen=True)
class Cell:
    """A cell as text.

    Attributes:
        ours: mean ± spread, and n if seeds are missing; "" if only a published number can be shown.
        theirs: the published number and our difference from it; "" if there is none.
        mark: of the published number's source.
        bold: whether ours is significantly better than the baseline.
        runs: the run folders.
    """

    ours: str
    theirs: str
    mark: str
    bold: bool
    runs: Sequence[RunFolder]


def rows(table: Table) -> Iterator[tuple[Row, bool, list[Cell]]]:
    """Each row, whether it starts another group, and its cells."""
    before = ""
    for row, cells in zip(table.rows, table.cells, strict=True):
        yield row, row.group != before, [_cell(table, *both) for both in zip(cells, table.columns, strict=True)]
        before = row.group


def _cell(table: Table, cell: Values, column: Column) -> Cell:
    published, summary = cell.published, cell.summary
    ours = theirs = ""
    if summary is not None:
        ours = _value(summary.mean, summary.spread, column)
        ours += f" (n={summary.n})" if summary.n != len(table.definition.seeds) else ""
    elif cell.expected or published is None:
        ours = "n/a" if cell.unresolved else EMPTY
    if published is not None:
        theirs = _value(published.value, published.spread, column)
        theirs += f" ({number(cell.gap, column, signed=True)})" if cell.gap is not None else ""
    mark = table.mark(published) if published is not None else ""
    return Cell(ours, theirs, mark, cell.wins, list(cell.runs.values()))


def _value(mean: float, spread: float | None, column: Column) -> str:
    return number(mean, column) + (f" ± {number(spread, column)}" if spread is not None else "")


def legend(table: Table) -> Iterator[str]:
    """The sentences below a table that explain its numbers."""
    definition = table.definition
    if table.measured:
        seeds = len(definition.seeds)
        if seeds > 1:
            kind = "sample standard deviation" if definition.spread == "std" else "95 % t-interval of the mean"
            listed = ", ".join(map(str, definition.seeds))
            yield f"Mean ± {kind} over {seeds} seeds ({listed}); n is given if it differs."
        else:
            yield f"One seed ({definition.seeds[0]})."
        if definition.baseline:
            yield (
                f"Bold: significantly better than {definition.baseline} (paired t-test over the same seeds, "
                f"p < {definition.significance:g} after Holm's correction over the rows of the column)."
            )
    yield _units(table.columns)
    if table.measured and table.notes:
        yield "Small print: the published value, with our difference from it in parentheses."
    for mark, note in table.notes:
        yield f"Published{f' ({mark})' if mark else ''}: {note}."


def _units(columns: Sequence[Column]) -> str:
    """Describe the unit of all values, or the most common one and the columns with others."""
    words = {"percent": "in percent", "fraction": "fractions", "number": "plain numbers"}
    ((usual, _),) = Counter(column.unit for column in columns).most_common(1)
    others = ", ".join(f"{column.heading}: {words[column.unit]}" for column in columns if column.unit != usual)
    return f"Values are {words[usual]}{f' ({others})' if others else ''}."


def sentences(table: Table) -> list[str]:
    """The legend and the note of the definition."""
    return [*legend(table), *([table.definition.note] if table.definition.note else [])]


def sections(table: Table) -> list[tuple[str, list[str]]]:
    """Lists below the table, if not empty: tests against the baseline, contrasts, and runs."""
    tests = [
        _difference(row.name, column, cell.comparison)
        for row, cells in zip(table.rows, table.cells, strict=True)
        for column, cell in zip(table.columns, cells, strict=True)
        if cell.comparison
    ]
    contrasts = [
        _difference(f"{contrast.row.name} minus {contrast.other.label}", contrast.column, contrast.comparison)
        for contrast in table.contrasts
    ]
    runs = []
    for row, cells in zip(table.rows, table.cells, strict=True):
        if folders := {seed: run for cell in cells for seed, run in cell.runs.items()}:
            runs.append(f"{row.name}: {', '.join(run_name(folders[seed].root) for seed in sorted(folders))}")
    found = {
        "Differences from the baseline, with their 95 % t-intervals": tests,
        "Other contrasts, not corrected for multiple testing": contrasts,
        "Runs": runs,
    }
    return [(title, lines) for title, lines in found.items() if lines]


def _difference(name: str, column: Column, found: Comparison) -> str:
    """The difference, its interval, p, p after Holm's correction for tests against the baseline, and n."""
    text = f"{name}, {column.heading}: {number(found.difference, column, signed=True)}"
    if found.low is None or found.high is None or found.p is None:
        why = "one seed" if found.n == 1 else "all differences equal"
        return f"{text} (n={found.n}, no test: {why})"
    low, high = (number(end, column, signed=True) for end in (found.low, found.high))
    corrected = "" if found.adjusted is None else f", corrected {found.adjusted:.3g}"
    return f"{text} [{low}, {high}], p={found.p:.3g}{corrected}, n={found.n}"


def commands(table: Table) -> list[str]:
    """The commands for everything that is missing, each once, with its purpose as a comment."""
    seen: dict[str, str] = {}
    for missing in table.missing:
        seen.setdefault(str(missing), f"{missing.what}: {missing.why}")
    return [f"{command}   # {why}" for command, why in seen.items()]


def run_name(root: Path) -> str:
    """The name of a run folder under paths.runs: the last two or more parts of its path."""
    run = RunFolder(root)
    try:
        return root.relative_to(str(run.read_config()["paths"]["runs"])).as_posix()
    except ValueError:  # the folder was moved
        return run.name
