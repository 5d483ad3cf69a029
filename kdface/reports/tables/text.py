"""The texts shared by all formats of a table, before formatting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdface.reports.tables.definition import Column
from kdface.reports.tables.statistics import Comparison
from kdface.reports.tables.table import Cell, Table
from kdface.runs.folder import RunFolder

EMPTY = "—"
MINUS = "\N{MINUS SIGN}"


def number(value: float, column: Column, *, signed: bool = False) -> str:
    """A fraction in the column's unit, with a typographic minus."""
    text = f"{value * column.scale:{'+' if signed else ''}.{column.digits}f}"
    if float(text) == 0 and text.startswith("-"):  # no minus sign for a rounded zero
        text = ("+" if signed else "") + text[1:]
    return text.replace("-", MINUS)


def ours(cell: Cell, column: Column, seeds: int) -> str:
    """Our value: mean ± spread, and n if seeds are missing."""
    if cell.summary is None:
        return "n/a" if cell.unresolved else EMPTY
    text = number(cell.summary.mean, column)
    if cell.summary.spread is not None:
        text += f" ± {number(cell.summary.spread, column)}"
    return text + (f" (n={cell.summary.n})" if cell.summary.n != seeds else "")


def theirs(cell: Cell, column: Column) -> str:
    """The published number and the gap; "" if there is none."""
    if cell.published is None:
        return ""
    text = number(cell.published.value, column)
    if cell.published.spread is not None:
        text += f" ± {number(cell.published.spread, column)}"
    return text + (f" ({number(cell.gap, column, signed=True)})" if cell.gap is not None else "")


def legend(table: Table) -> Iterator[str]:
    """The sentences below a table that explain its numbers."""
    definition = table.definition
    if table.measured:
        seeds = len(definition.seeds)
        if seeds > 1:
            kind = "sample standard deviation" if definition.spread == "std" else "95 % t-interval of the mean"
            listed = ", ".join(map(str, definition.seeds))
            yield f"Mean ± {kind} over {seeds} seeds ({listed}); n is given where it differs."
        else:
            yield f"One seed ({definition.seeds[0]})."
        if definition.baseline:
            yield (
                f"Bold: better than {definition.baseline} in a paired t test over the same seeds, "
                f"p < {definition.significance:g} after Holm's correction over the rows of the column."
            )
    yield _units(table.columns)
    if table.measured and table.notes:
        yield "Small: the published number, in brackets ours less it."
    for mark, note in table.notes:
        yield f"Published{f' ({mark})' if mark else ''}: {note}."


def _units(columns: Sequence[Column]) -> str:
    """Describe the unit of all values, or the most common one and the columns with others."""
    words = {"percent": "percent", "fraction": "fractions", "number": "numbers without a unit"}
    ((usual, _),) = Counter(column.unit for column in columns).most_common(1)
    others = ", ".join(f"{column.heading}: {words[column.unit]}" for column in columns if column.unit != usual)
    return f"Values are {words[usual]}{f' ({others})' if others else ''}."


def tests(table: Table) -> Iterator[str]:
    """One line per test: the difference from the baseline, its interval, p and n."""
    for r, row in enumerate(table.rows):
        for c, column in enumerate(table.columns):
            found = table.cells[r][c].comparison
            if found is None:
                continue
            corrected = "" if found.adjusted is None else f", corrected {found.adjusted:.3g}"
            yield _difference(row.name, column, found, corrected)


def contrasts(table: Table) -> Iterator[str]:
    """One line per contrast and column: the difference, its interval, uncorrected p, and n."""
    for contrast in table.contrasts:
        yield _difference(f"{contrast.row.name} less {contrast.other.label}", contrast.column, contrast.comparison)


def _difference(name: str, column: Column, found: Comparison, corrected: str = "") -> str:
    text = f"{name}, {column.heading}: {number(found.difference, column, signed=True)}"
    if found.low is None or found.high is None or found.p is None:
        why = "one seed" if found.n == 1 else "all differences equal"
        return f"{text} (n={found.n}, no test: {why})"
    low, high = (number(end, column, signed=True) for end in (found.low, found.high))
    return f"{text} [{low}, {high}], p={found.p:.3g}{corrected}, n={found.n}"


def commands(table: Table) -> Iterator[tuple[str, str]]:
    """(command, purpose) for everything that is missing, each command once."""
    seen: dict[str, str] = {}
    for missing in table.missing:
        seen.setdefault(str(missing), f"{missing.what}: {missing.why}")
    yield from seen.items()


def runs(table: Table) -> Iterator[str]:
    """One line per row: the names of its run folders, without their location."""
    for r, row in enumerate(table.rows):
        folders = {seed: run for cell in table.cells[r] for seed, run in cell.runs.items()}
        if folders:
            names = ", ".join(run_name(folders[seed].root) for seed in sorted(folders))
            yield f"{row.name}: {names}"


def run_name(root: Path) -> str:
    """The name of a run folder under paths.runs: the last two or more parts of its path."""
    run = RunFolder(root)
    try:
        return root.relative_to(str(run.read_config()["paths"]["runs"])).as_posix()
    except ValueError:  # the folder was moved
        return run.name
