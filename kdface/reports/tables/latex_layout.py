"""How a table is laid out on a page: the size of its letters, and which texts are broken into lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby

from kdface.reports.tables import text
from kdface.reports.tables.latex_text import width
from kdface.reports.tables.table import Cell, Table

ROOM = 440.0  # points: a little less than two columns of `article` on A4
_DIGIT = {"small": 4.625, "footnotesize": 4.25, "scriptsize": 3.986, "tiny": 3.403}  # points
_BOLD, _MARK = 1.15, 0.7  # as wide as usual
_WITHIN = re.compile(r"(?<=@)|(?<=[A-Za-z]{2}-)")  # where a word too long for its line may go on in the next one
_PARTS = re.compile(r" (?=± |\()")  # of a number: mean, spread, what is in brackets


@dataclass(frozen=True)
class Style:
    """Attributes:
    size, small: LaTeX's names of the letters' size, and of that of published numbers beside ours.
    gap: points on each side of a column.
    stacked: spreads and what is in brackets stand below their numbers.
    label, heading: how wide a row's label, and a heading over narrower numbers, may be without a break, in digits.
    """

    size: str
    small: str
    gap: int
    stacked: bool
    label: float
    heading: float

    @property
    def digit(self) -> float:
        """The width of a digit in points."""
        return _DIGIT[self.size]


# In order of preference.
_STYLES = (
    Style("small", "scriptsize", 6, stacked=False, label=40, heading=8),
    Style("footnotesize", "scriptsize", 4, stacked=False, label=40, heading=8),
    Style("scriptsize", "tiny", 3, stacked=False, label=40, heading=8),
    Style("footnotesize", "scriptsize", 4, stacked=True, label=20, heading=5),
    Style("scriptsize", "tiny", 3, stacked=True, label=20, heading=5),
)


@dataclass(frozen=True)
class Line:
    """One line of a cell. `published`: not ours; `mark` stands behind it."""

    words: str
    bold: bool = False
    published: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Layout:
    """Texts, each as its lines from the top down.

    Attributes:
        width: about how wide the table is, in points.
        groups: (heading over columns, its lines, how many columns).
        headings: [column].
        labels: [row].
        cells: [row][column].
    """

    style: Style
    width: float
    groups: tuple[tuple[str, list[str], int], ...]
    headings: list[list[str]]
    labels: list[list[str]]
    cells: list[list[list[Line]]]


def lay_out(table: Table) -> Layout:
    """The first style in which the table fits the page, and where none does the narrowest."""
    layouts = [_in_style(table, style) for style in _STYLES]
    return next((each for each in layouts if each.width <= ROOM), min(layouts, key=lambda each: each.width))


def _in_style(table: Table, style: Style) -> Layout:
    labels = [_broken(row.label, style.label) for row in table.rows]
    cells = [[_lines(table, cell, c, style.stacked) for c, cell in enumerate(row)] for row in table.cells]
    ratio = _DIGIT[style.small] / style.digit if table.measured else 1.0
    bodies = [max(_width(line, ratio) for row in cells for line in row[c]) for c in range(len(table.columns))]
    headings = [
        _broken(column.label, max(body, style.heading)) for column, body in zip(table.columns, bodies, strict=True)
    ]
    widths = [max(body, *map(width, lines)) for body, lines in zip(bodies, headings, strict=True)]
    points = max(width(line) for lines in labels for line in lines) * style.digit + 2 * style.gap
    groups, at = [], 0
    for group, found in groupby(column.group for column in table.columns):
        size = len(list(found))
        inner = sum(widths[at : at + size]) * style.digit + 2 * style.gap * (size - 1)
        lines = _broken(group, inner / style.digit)
        points += max(inner, *(width(line) * style.digit for line in lines)) + 2 * style.gap
        groups.append((group, lines, size))
        at += size
    blocks = [width(row.group) * style.digit + 2 * style.gap for row in table.rows]
    return Layout(style, max(points, *blocks), tuple(groups), headings, labels, cells)


def _lines(table: Table, cell: Cell, place: int, stacked: bool) -> list[Line]:
    column = table.columns[place]
    lines = []
    if cell.expected or cell.published is None:
        words = text.ours(cell, column, len(table.definition.seeds))
        lines = [Line(each, bold=cell.wins) for each in _parts(words, stacked)]
    if cell.published is not None:
        *above, last = _parts(text.theirs(cell, column), stacked)
        lines += [Line(each, published=True) for each in above]
        lines.append(Line(last, published=True, mark=table.mark(cell.published)))
    return lines


def _parts(words: str, stacked: bool) -> list[str]:
    return _PARTS.split(words) if stacked else [words]


def _width(line: Line, published: float) -> float:
    """In digits; `published`: how wide letters of published numbers are."""
    words = width(line.words) * (_BOLD if line.bold else 1) + width(line.mark) * _MARK
    return words * (published if line.published else 1)


def _broken(words: str, most: float) -> list[str]:
    """In lines of at most so many digits, or of as many as its longest word has."""
    pieces: list[str] = []
    for word in words.split() or [""]:
        pieces += _WITHIN.split(word) if width(word) > most else [word]
        pieces[-1] += " "
    most = max(most, *map(width, pieces))
    lines = [""]
    for piece in pieces:
        if lines[-1] and width(lines[-1] + piece) > most:
            lines.append("")
        lines[-1] += piece
    return lines
