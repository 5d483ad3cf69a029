"""CSV files: read completely or rejected with a reason, and written without formulas (CSV injection)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kdface.errors import DataError
from kdface.stored import read_parsed

# A spreadsheet evaluates a text that begins so; an apostrophe before it makes it a text (OWASP, "CSV injection").
_FORMULA = re.compile("'*[=+\\-@\t\r]")


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file (UTF-8; tabs if its first line has any), each with the number of its last line, from 1.

    Removes the apostrophe that `csv_text` puts before formulas.

    Raises:
        DataError: it cannot be read, is not UTF-8, contains a NUL, or has an unterminated quoted field.
    """
    rows: list[tuple[int, list[str]]] = read_parsed(path, rows_in, kind=DataError)
    return rows


def rows_in(text: str) -> list[tuple[int, list[str]]]:
    """The rows of a text as in `read_rows`. Raises `ValueError` with the reason."""
    if "\0" in text:  # csv's error differs between Python versions
        raise ValueError("it holds a NUL byte")
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(rows.line_num, [_unescaped(field) for field in row]) for row in rows]
    except csv.Error as error:
        raise ValueError(str(error)) from None


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV. Texts that a spreadsheet would evaluate are prefixed with an apostrophe; numbers, and texts that are
    lists of numbers, are unchanged."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_escaped(value) for value in row] for row in rows)
    return text.getvalue()


def _escaped(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_numbers(value) else value


def _unescaped(field: str) -> str:
    return field[1:] if field.startswith("'") and _FORMULA.match(field) else field


def _is_numbers(text: str) -> bool:
    try:
        return bool([float(part) for part in text.split(" ")])
    except ValueError:
        return False
